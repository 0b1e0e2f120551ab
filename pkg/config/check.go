package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"merklekv/pkg/internal/address"
)

// Greatest lengths of names, in bytes.
const (
	maxTopicPrefix = 256
	maxClientID    = 128
)

func checkNodeID(v string) error {
	if len(v) > address.MaxNodeID {
		return fmt.Errorf("has %d characters; at most %d are valid", len(v), address.MaxNodeID)
	}
	for _, r := range v {
		if !address.IsNameChar(r) {
			return fmt.Errorf("has %q in it; A-Z a-z 0-9 . _ - are valid", r)
		}
	}
	return nil
}

// checkLine accepts text that can stand on one line.
func checkLine(v string) error {
	if !utf8.ValidString(v) {
		return errors.New("is not valid UTF-8")
	}
	if strings.ContainsFunc(v, unicode.IsControl) {
		return errors.New("has a control character in it")
	}
	return nil
}

func checkPath(v string) error {
	if strings.ContainsRune(v, 0) {
		return errors.New("has a NUL character in it")
	}
	return nil
}

func checkIP(v string) error {
	if _, err := netip.ParseAddr(v); err == nil {
		return nil
	}
	if v == "localhost" {
		return errors.New("is a name, not an IP address; write 127.0.0.1 or ::1")
	}
	return errors.New("is not an IP address, such as 127.0.0.1, 0.0.0.0 or ::1")
}

func checkHostPort(v string) error {
	_, err := address.HostPort(v, DefaultPeerPort)
	return err
}

func checkBroker(v string) error {
	_, err := address.ParseBroker(v)
	return err
}

func checkTopicPrefix(v string) error {
	if len(v) > maxTopicPrefix {
		return fmt.Errorf("has %d bytes; at most %d are valid", len(v), maxTopicPrefix)
	}
	if strings.ContainsAny(v, "+#") {
		return errors.New("has + or # in it, which are wildcards of MQTT")
	}
	if strings.HasPrefix(v, "$") {
		return errors.New("begins with $, which the broker keeps for itself")
	}
	if strings.HasPrefix(v, "/") || strings.HasSuffix(v, "/") || strings.Contains(v, "//") {
		return errors.New("has an empty level; write it without / at either end and without //")
	}
	return checkLine(v)
}

func checkClientID(v string) error {
	if len(v) > maxClientID {
		return fmt.Errorf("has %d bytes; at most %d are valid", len(v), maxClientID)
	}
	return checkLine(v)
}

func checkUser(v string) error {
	user, password, ok := strings.Cut(v, ":")
	if !ok || user == "" || password == "" {
		return errors.New("is not of the form user:password")
	}
	return checkLine(v)
}
