package node

import (
	"log/slog"

	"golang.org/x/sys/unix"
)

// spareDescriptors is what a node needs beside its clients.
const spareDescriptors = 64

// warnDescriptors logs when the system allows fewer open files than clients.
func warnDescriptors(logger *slog.Logger, maxConnections int) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		logger.Warn("cannot read the limit of open files", "err", err)
		return
	}
	if limit.Cur < uint64(maxConnections)+spareDescriptors {
		logger.Warn("fewer files may be open than network.max_connections needs; raise the limit or lower the key",
			"open_files", limit.Cur, "max_connections", maxConnections)
	}
}
