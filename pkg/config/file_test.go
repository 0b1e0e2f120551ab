package config

import (
	"strings"
	"testing"
)

func TestWhatTOMLMaySay(t *testing.T) {
	for name, text := range map[string]string{
		"tables":        "[network]\nbind_port = 1",
		"dotted keys":   "network.bind_port = 1",
		"inline table":  "network = { bind_port = 1 }",
		"empty section": "[network]\n[broker]\nnetwork.x = 1",
		"hexadecimal":   "[network]\nbind_port = 0x1",
	} {
		src := Sources{File: writeFile(t, "n.toml", required+text)}
		if name == "empty section" {
			if got := problemsOf(t, src); len(got) != 1 || !strings.Contains(got[0], "broker.network: unknown key") {
				t.Errorf("%s: %q", name, got)
			}
			continue
		}
		loaded := mustLoad(t, src)
		if got := loaded.Config.Network.BindPort; got != 1 {
			t.Errorf("%s: port %d", name, got)
		}
		if line := loaded.Origins["network.bind_port"].Line; line < 3 || line > 4 {
			t.Errorf("%s: line %d", name, line)
		}
	}
}

func TestWhatTOMLMayNotSay(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"syntax", "x = ", "FILE:3: is not valid TOML: "},
		{"twice", "description = \"a\"\ndescription = \"b\"", "is not valid TOML: "},
		{"section twice", "[network]\n[network]", "is not valid TOML: "},
		{"overflow", "[network]\nbind_port = 9223372036854775808", "FILE:4: is not valid TOML: "},
		{"section as value", "network = 5", "FILE:3: network: must be a table: write [network]"},
		{"array of tables", "[[network]]\nbind_port = 1", "FILE:3: network: must be a table: write [network]"},
		{"key as table", "[description]\nx = 1", "FILE:3: description: must be a string, in quotes, not a table"},
		{"quoted dots", "\"network.bind_port\" = 5", "network.bind_port: unknown key; a key stands without quotes"},
		{"unknown section", "[netwrk]\nbind_port = 1", "FILE:3: netwrk: unknown key"},
		{"too deep", "[network.tls]\nx = 1", "FILE:3: network.tls: unknown key"},
		{"inline", "network = { bind_prt = 1 }", "FILE:3: network.bind_prt: unknown key; did you mean network.bind_port?"},
		{"mixed list", "[anti_entropy]\npeer_list = [\"a\", 1]", "not a list that holds a whole number"},
		{"nested list", "[anti_entropy]\npeer_list = [[\"a\"]]", "not a list that holds a list"},
		{"date", "description = 2026-01-01", "not a date or a time; put it into quotes"},
		{"infinity", "[network]\nbind_port = inf", "not a number with a fraction"},
		{"null", "[network]\nbind_address = \"\"", "FILE:4: network.bind_address: must not be empty; the default is \"127.0.0.1\""},
		{"strange key", "\"a\\nb\" = 5", `FILE:3: a\nb: unknown key`},
	} {
		got := problemsOf(t, Sources{File: writeFile(t, "n.toml", required+tc.text)})
		if len(got) != 1 || !strings.Contains(got[0], tc.want) {
			t.Errorf("%s: got %q, want one with %q", tc.name, got, tc.want)
		}
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	for path, want := range map[string]string{
		dir + "/missing": "no such file",
		dir:              "cannot be read",
		writeFile(t, "big", strings.Repeat("#", maxFileSize+1)): "is larger than",
	} {
		if got := problemsOf(t, Sources{File: path}); len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}
