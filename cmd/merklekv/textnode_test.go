package main

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// textNode answers requests of the text protocol from a script and returns its
// address. An answer is the whole of it, with its line ends; what is not in the
// script is an error. An answer of "" closes the connection.
func textNode(t *testing.T, script map[string]string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { defer conn.Close(); answer(conn, script) })
		}
	})
	t.Cleanup(func() { _ = ln.Close(); conns.Wait() })
	return ln.Addr().String()
}

func answer(conn net.Conn, script map[string]string) {
	for in := bufio.NewScanner(conn); in.Scan(); {
		reply, known := script[strings.TrimRight(in.Text(), "\r")]
		if !known {
			reply = "ERROR: Invalid command\r\n"
		}
		if reply == "" {
			return
		}
		if _, err := io.WriteString(conn, reply); err != nil {
			return
		}
	}
}
