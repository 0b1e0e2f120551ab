package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"merklekv/pkg/config"
)

const (
	healthTimeout = 2 * time.Second
	// maxReasons bounds what is shown of an answer, in bytes.
	maxReasons = 4 << 10
)

func (a *app) healthCommand() *cobra.Command {
	var url string
	var ofBroker bool
	cmd := &cobra.Command{
		Use: "health", Short: "Ask the node of this machine whether it serves clients", Args: cobra.NoArgs,
		Long: "Asks the admin port of the node on this machine whether it serves clients, or, with\n" +
			"--broker, whether the broker on this machine speaks MQTT. Exit code 0 says yes, 1 no.",
	}
	configFlags(cmd)
	cmd.Flags().StringVar(&url, "url", "", "ask this URL instead of the one that the configuration gives")
	cmd.Flags().BoolVar(&ofBroker, "broker", false, "ask the MQTT broker")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		sources := a.sources(cmd)
		sources.Partial = true
		loaded, err := config.Load(sources)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), healthTimeout)
		defer cancel()
		c := loaded.Config
		switch {
		case ofBroker:
			err = askBroker(ctx, config.Reach(c.Broker.BindAddress, c.Broker.BindPort), c.Broker.Accounts())
		case url != "":
			err = askNode(ctx, url)
		default:
			err = askNode(ctx, "http://"+config.Reach(c.Admin.BindAddress, c.Admin.BindPort)+"/readyz")
		}
		if err == nil {
			fmt.Fprintln(a.stdout, "healthy")
		}
		return err
	}
	return cmd
}

// askNode returns nil when the URL answers 200, else what it answers.
func askNode(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return &usageError{fmt.Errorf("--url: %w", err)}
	}
	// No proxy: what is asked is on this machine.
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return fmt.Errorf("no answer; is the node running, and is admin.bind_port right? %w", err)
	}
	defer response.Body.Close()
	reasons, err := io.ReadAll(io.LimitReader(response.Body, maxReasons))
	if err != nil {
		return fmt.Errorf("half an answer from %s: %w", url, err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("unhealthy: %s: %s", response.Status, strings.TrimSpace(string(reasons)))
	}
	return nil
}

// mqttConnack is how the answer to an MQTT 3.1.1 CONNECT begins.
var mqttConnack = [2]byte{0x20, 0x02}

// mqttConnect returns an MQTT 3.1.1 CONNECT with a clean session, no keep-alive
// and the client identifier "health"; with one of the broker's accounts, if it has
// any, so that its log is not full of refusals.
func mqttConnect(accounts map[string]string) []byte {
	text := func(dst []byte, s string) []byte {
		return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
	}
	flags := byte(0x02)
	payload := text(nil, "health")
	for user, password := range accounts {
		flags |= 0xc0
		payload = text(text(payload, user), password)
		break
	}
	rest := append(text(nil, "MQTT"), 0x04, flags, 0, 0)
	rest = append(rest, payload...)
	return append(binary.AppendUvarint([]byte{0x10}, uint64(len(rest))), rest...)
}

// askBroker returns nil when an MQTT broker answers a CONNECT. Whether it would
// let such a client in does not matter.
func askBroker(ctx context.Context, address string, accounts map[string]string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("no answer; is the broker running, and is broker.bind_port right? %w", err)
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := conn.Write(mqttConnect(accounts)); err != nil {
		return fmt.Errorf("ask %s: %w", address, err)
	}
	var answer [2]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return fmt.Errorf("no MQTT answer from %s: %w", address, err)
	}
	if answer != mqttConnack {
		return errors.New("what answers at " + address + " does not speak MQTT 3.1.1")
	}
	return nil
}
