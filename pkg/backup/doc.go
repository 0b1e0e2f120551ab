// Package backup makes, lists, checks and restores backups of a node's data.
//
// A backup is a directory in the backup directory, named after the node and the
// time:
//
//	backup_dir/
//	  node1-20261122T031500.000Z/
//	    backup.json    the manifest: what is in the backup, and its checksums
//	    journal/       a checkpoint of the journal
//	  .partial~node1-20261123T031500.000Z/    being made, or being removed
//
// [Create] makes one under the temporary name, forces files and directories to the
// disk, and renames it last: a directory that has a backup's name is whole. What a
// crash left behind goes at the next Create. Only when the new backup is whole are
// the oldest beyond the wanted number removed. Backups of other nodes, directories
// with other names, and backups that cannot be read are never touched.
//
// [Verify] reads everything: the checksum of every file, then every entry.
// [Restore] does that first, and makes the data directory of a node out of it. The
// restored volume has an identity of its own, so a copy is not taken for the node
// whose data it is.
//
// [Runner] makes backups at their times. Its schedule is a state machine that is
// told the time.
package backup
