package replication

import (
	"sync"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// apart keeps the writers of a retained message and those who look for some with a
// wildcard from meeting in Mochi, which would be a data race there. Package broker
// does the same.
type apart struct {
	mochi.HookBase
	mu sync.RWMutex // from one hook of a packet to a later one of the same packet
}

func (*apart) ID() string { return "apart" }

func (*apart) Provides(event byte) bool {
	switch event {
	case mochi.OnPublish, mochi.OnWill, mochi.OnRetainMessage, mochi.OnSubscribed, mochi.OnPacketProcessed:
		return true
	}
	return false
}

func (a *apart) OnPublish(_ *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	if pk.FixedHeader.Retain {
		a.mu.Lock()
	}
	return pk, nil
}

func (a *apart) OnWill(_ *mochi.Client, will mochi.Will) (mochi.Will, error) {
	if will.Retain {
		a.mu.Lock()
	}
	return will, nil
}

func (a *apart) OnRetainMessage(*mochi.Client, packets.Packet, int64) { a.mu.Unlock() }
func (a *apart) OnSubscribed(*mochi.Client, packets.Packet, []byte)   { a.mu.RLock() }
func (a *apart) OnPacketProcessed(_ *mochi.Client, pk packets.Packet, _ error) {
	if pk.FixedHeader.Type == packets.Subscribe {
		a.mu.RUnlock()
	}
}
