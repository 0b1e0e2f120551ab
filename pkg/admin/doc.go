// Package admin is the HTTP side of a node, for operators and their machines.
//
//	/livez            200 while the process answers HTTP at all
//	/readyz           200 when the node serves clients, 503 when it does not;
//	                  with ?verbose one line for each check
//	/metrics          what the gatherer holds, in Prometheus' formats
//	/debug/pprof/     profiles, only when asked for in the options
//
// Any other path is 404 with a line that lists these. A check that is degraded
// (the broker is away, a node is over its memory limit) is named and does not
// fail the node: it still serves clients.
//
// The package reads nothing but what Options hand over. It has no
// authentication: its address is the loopback unless the operator says
// otherwise, and nothing here changes the node.
package admin
