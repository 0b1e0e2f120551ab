package backup

import (
	"fmt"

	"merklekv/pkg/internal/diskspace"
)

// leavesRoom returns an error when the backups lie on the disk of the data and so
// little is free there that the node refuses writes, or is about to: the rest is for
// the journal. A disk of which nothing can be learned has room.
func leavesRoom(o *Options) error {
	if o.DataDir == "" {
		return nil
	}
	data, err := o.FS.Stat(o.DataDir)
	if err != nil {
		return fmt.Errorf("look at data directory: %w", err)
	}
	own, err := o.FS.Stat(o.Dir)
	if err != nil {
		return fmt.Errorf("look at backup directory: %w", err)
	}
	usage, err := o.FS.GetDiskUsage(o.Dir)
	if err != nil || data.DeviceID() != own.DeviceID() {
		return nil
	}
	if least := diskspace.MarksOf(usage.TotalBytes).Clear; usage.AvailBytes < least {
		return fmt.Errorf("%w: %d bytes are free on the disk of %s, and %d have to be left for the journal; let storage.backup_dir be on another disk",
			ErrNoRoom, usage.AvailBytes, o.Dir, least)
	}
	return nil
}
