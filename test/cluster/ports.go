package cluster

import (
	"fmt"
	"net"
	"strings"
)

const brokerPortVariable = "MKV_BROKER_PORT"

// portVariables names every host port of the compose file.
func portVariables() []string {
	names := []string{brokerPortVariable}
	for i := 1; i <= Nodes; i++ {
		upper := strings.ToUpper(NodeName(i))
		names = append(names, "MKV_"+upper+"_PORT", "MKV_"+upper+"_ADMIN_PORT")
	}
	return names
}

// freePorts asks the kernel for one port a name. All are held until the last is known, so they
// differ; between here and the start of the containers another process could still take one.
func freePorts(names []string) (map[string]int, error) {
	ports := make(map[string]int, len(names))
	for _, name := range names {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer listener.Close()
		ports[name] = listener.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}
