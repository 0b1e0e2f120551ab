package nodes

import (
	"fmt"
	"net"
)

// FreePorts asks the kernel for one port of 127.0.0.1 a name. All are held until the last is known,
// so they differ; between here and their use another process could still take one.
func FreePorts(names []string) (map[string]int, error) {
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

// Count is how many nodes the repository's compose file starts: node1 to node3.
const Count = 3

// Name is the name of node i of the compose file, counted from 1: as a service, and as a node.
func Name(i int) string { return fmt.Sprintf("node%d", i) }

// BrokerPort is the variable of the compose file that holds the host port of the broker.
const BrokerPort = "MKV_BROKER_PORT"

// PortVariables names every host port of the compose file.
func PortVariables() []string {
	names := []string{BrokerPort}
	for i := range Count {
		names = append(names, clientPort(i+1), adminPort(i+1))
	}
	return names
}

func clientPort(i int) string { return fmt.Sprintf("MKV_NODE%d_PORT", i) }
func adminPort(i int) string  { return fmt.Sprintf("MKV_NODE%d_ADMIN_PORT", i) }

// Of returns node i of the compose file, counted from 1, by the host ports under their variables.
func Of(ports map[string]int, i int) Node {
	return Node{
		Name:      Name(i),
		Address:   fmt.Sprintf("127.0.0.1:%d", ports[clientPort(i)]),
		AdminBase: fmt.Sprintf("http://127.0.0.1:%d", ports[adminPort(i)]),
	}
}
