package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const hidden = "s3cr3t-v4lue"

// secretive is a configuration whose secrets all hold the hidden text.
func secretive(t *testing.T) *Loaded {
	t.Helper()
	return mustLoad(t, Sources{File: writeFile(t, "n.toml", required+fmt.Sprintf(
		"mqtt.username = \"u\"\nmqtt.password = %q\nbroker.users = [\"u:%s\"]\nsecurity.cluster_secret = %q\n",
		hidden, hidden, hidden+hidden))})
}

func TestNothingShowsASecret(t *testing.T) {
	loaded := secretive(t)
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb, loaded.Config)
		fmt.Fprintf(&out, verb, loaded)
		fmt.Fprintf(&out, verb, loaded.Config.MQTT.Password)
		fmt.Fprintf(&out, verb, loaded.Config.Broker.Users)
	}
	for _, handler := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
		slog.New(handler).Info("x", "config", loaded.Config, "loaded", loaded,
			"mqtt", loaded.Config.MQTT, "users", loaded.Config.Broker.Users, "one", loaded.Config.MQTT.Password)
	}
	if err := json.NewEncoder(&out).Encode(loaded); err != nil {
		t.Fatal(err)
	}
	if err := loaded.Print(&out); err != nil {
		t.Fatal(err)
	}
	hex := fmt.Sprintf("%x", hidden)
	if text := out.String(); strings.Contains(text, hidden) || strings.Contains(text, hex) {
		t.Errorf("a secret is shown:\n%s", text)
	}
	if !strings.Contains(out.String(), mask) {
		t.Error("no mask is shown")
	}
	c := loaded.Config
	if c.MQTT.Password.Reveal() != hidden || c.Broker.Accounts()["u"] != hidden || c.Security.ClusterSecret.Reveal() != hidden+hidden {
		t.Error("the secrets themselves are lost")
	}
}

func TestPrintShowsEveryKeyWithItsOrigin(t *testing.T) {
	var out bytes.Buffer
	loaded := secretive(t)
	if err := loaded.Print(&out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != len(Keys()) {
		t.Fatalf("%d lines for %d keys", len(lines), len(Keys()))
	}
	for i, key := range Keys() {
		fields := strings.Fields(lines[i])
		if fields[0] != key.Name || !strings.HasSuffix(lines[i], "# "+loaded.Origins[key.Name].String()) {
			t.Errorf("line %d is %q, want %s and its origin", i, lines[i], key.Name)
		}
	}
	for _, want := range []string{`= "****"`, `= ["****"]`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s", want)
		}
	}
}

func TestNoMessageShowsASecret(t *testing.T) {
	for _, text := range []string{
		"mqtt.password = [\"" + hidden + "\"]",
		"mqtt.pasword = \"" + hidden + "\"",
		"mqtt.password = \"" + hidden + "\"",
		"mqtt.password = \"" + hidden,
		"broker.users = [\"" + hidden + "\"]",
		"broker.users = [\":" + hidden + "\"]",
		"broker.users = [\"a:" + hidden + "\", \"a:" + hidden + "\"]",
		"broker.users = \"" + hidden + "\"",
		"mqtt.broker_addresses = [\"tcp://u:" + hidden + "@host\"]",
		"mqtt.broker_addresses = [\"foo://u:" + hidden + "@host\"]",
	} {
		got := problemsOf(t, Sources{File: writeFile(t, "n.toml", required+text)})
		if strings.Contains(strings.Join(got, "\n"), hidden) {
			t.Errorf("%q", got)
		}
	}
}

func TestSecretsFromFiles(t *testing.T) {
	users := writeFile(t, "users", "a:1,x\r\n b:2 \n")
	password := writeFile(t, "password", " two\nlines\n\n")
	c := mustLoad(t, Sources{Environ: []string{
		"MERKLE_KV_NODE_ID=n", "MERKLE_KV_MQTT_BROKER_ADDRESS=b", "MERKLE_KV_MQTT_USERNAME=u",
		"MERKLE_KV_BROKER_USERS_FILE=" + users, "MERKLE_KV_MQTT_PASSWORD_FILE=" + password,
	}}).Config
	if got := c.Broker.Accounts(); len(got) != 2 || got["a"] != "1,x" || got["b"] != "2" {
		t.Errorf("users %v", got)
	}
	if got := c.MQTT.Password.Reveal(); got != " two\nlines\n" {
		t.Errorf("password %q", got)
	}
	for _, tc := range []struct{ pair, want string }{
		{"MERKLE_KV_SECURITY_CLUSTER_SECRET_FILE=/no/such", `"/no/such" cannot be read: no such file`},
		{"MERKLE_KV_SECURITY_CLUSTER_SECRET_FILE=", `"" cannot be read: no such file`},
		{"MERKLE_KV_NODE_ID_FILE=" + users, "unknown variable"},
	} {
		got := problemsOf(t, Sources{Environ: []string{tc.pair}})
		if len(got) != 1 || !strings.Contains(got[0], tc.want) {
			t.Errorf("%s: got %q, want %q", tc.pair, got, tc.want)
		}
	}
	got := problemsOf(t, Sources{Environ: []string{
		"MERKLE_KV_SECURITY_CLUSTER_SECRET_FILE=" + password, "MERKLE_KV_SECURITY_CLUSTER_SECRET=" + hidden}})
	if len(got) != 1 || !strings.Contains(got[0], "is set by MERKLE_KV_SECURITY_CLUSTER_SECRET too; unset one of them") {
		t.Errorf("got %q", got)
	}
}
