// Package broker runs an MQTT broker inside the process, for one cluster.
//
// It is Mochi MQTT with a fence around it. The broker carries messages and keeps
// nothing but the retained presence of nodes, in memory; it may lose any message,
// and nodes repair what it loses.
//
// # Who may do what
//
//	topic                    publish   subscribe
//	<prefix>/updates            x         x
//	<prefix>/heads              x         x
//	<prefix>/nodes/<node_id>    x         x        only here a message is retained
//	<prefix>/nodes/+                      x
//	<prefix>/#                            x
//
// Everything else is refused, $SYS and forbidden last wills included. Without configured users
// every client has these rights, whatever name it gives; with users a client
// needs a name and its password. A message that nobody may publish is dropped at
// QoS 0; at QoS 1 it ends the connection.
//
// # What one client can cost
//
// A connection is counted from accept to close; beyond MaxClients new ones are
// closed at once. It has ConnectTimeout for its CONNECT, which has at most 64
// KiB; no packet has more than MaxPacket bytes plus a topic. What is written to a
// client leaves within WriteTimeout or the client is cut off, so a client that
// stops reading delays nobody for longer. Retained messages are limited in number
// and size; sessions of absent clients in number, age and messages.
package broker
