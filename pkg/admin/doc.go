// Package admin is the HTTP side of a node, for operators and their machines.
//
//	/livez            200 while the process answers HTTP at all
//	/readyz           200 when the node serves clients, 503 when it does not;
//	                  with ?verbose one line for each check
//	/metrics          what the gatherer holds, in Prometheus' formats
//	/api/syncs        the last repair sessions and their price, newest first;
//	                  ?n=20 the last twenty, at most the hundred that are kept
//	/api/peers        the other nodes as this one sees them
//	/api/epochs       the own closed epochs: root, count, whether peers may compare
//	/api/members      the nodes of the cluster, those that are silent included
//	/api/backups      the node's backups, newest first; a POST makes one now and
//	                  answers with lines of JSON: how far it is, then what was made
//	/debug/pprof/     profiles, only when asked for in the options
//
// What is under /api/ is a JSON array of objects, whose fields are described by
// the types Sync, Peer, Epoch, Member and Backup. Fields may be added, none is renamed.
//
// Any other path is 404 with a line that lists these. A check that is degraded
// (the broker is away, a node is over its memory limit) is named and does not
// fail the node: it still serves clients.
//
// The package reads nothing but what Options hand over. It has no
// authentication: its address is the loopback unless the operator says
// otherwise, and nothing here changes the node's data. The one POST is refused where
// a browser sends it for a page of another site.
package admin
