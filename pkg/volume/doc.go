// Package volume is the data directory of a node: whose it is, that one process at a
// time uses it, and up to where its clock may have counted.
//
//	data_dir/
//	  volume.json   identity: format, node_id, volume id, created
//	  LOCK          held by the process that uses the directory
//	  clock         upper bound of the timestamps that were issued
//	  ballast       room to recover in when the disk is full; not of this package
//	  journal/      the entries; not of this package
//
// [Open] makes or opens a volume and locks it. Files are replaced as a whole: written
// under another name, synced, renamed, and the directory synced; so a crash at any
// moment leaves the old or the new one. DESIGN.md has the formats byte for byte.
package volume
