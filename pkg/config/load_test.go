package config

import "testing"

func TestSmoke(t *testing.T) {
	l, err := Load(Sources{HostName: "h o"})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%v %v %v", l.Config, l.Origins, l.Notices)
	_, err = Load(Sources{File: "/dev/null", Environ: []string{"MERKLE_KV_NODE_IT=x", "MERKLE_KV_NETWORK_BIND_PORT=x"}})
	t.Log(err)
}
