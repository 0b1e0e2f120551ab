package volume

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strconv"
	"time"

	"merklekv/pkg/internal/address"
)

// Format is the format of data directories that this program writes, and the
// greatest that it reads.
const Format = 1

// identity is what volume.json says.
type identity struct {
	format  int
	nodeID  string
	id      uint64    // random, never 0; a copy of the directory has the same
	created time.Time // UTC, whole seconds
}

// newIdentity draws an identity for a node's data.
func newIdentity(nodeID string, created time.Time) identity {
	v := identity{format: Format, nodeID: nodeID, created: created.UTC().Truncate(time.Second)}
	for v.id == 0 {
		v.id = rand.Uint64()
	}
	return v
}

func checkNodeID(nodeID string) error {
	if !address.IsNodeID(nodeID) {
		return fmt.Errorf("%.80q is not a node_id: 1 to %d of A-Z a-z 0-9 . _ - are", nodeID, address.MaxNodeID)
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal is the end of volume.json: the checksum of all bytes before it. It is the same
// in every format, so that a damaged file is never taken for a newer one.
func seal(body []byte) string {
	return fmt.Sprintf("  \"checksum\": \"crc32c:%08x\"\n}\n", crc32.Checksum(body, castagnoli))
}

var sealLen = len(seal(nil))

// encode returns the content of volume.json. A node_id needs no escapes in JSON.
func (v identity) encode() []byte {
	body := fmt.Appendf(nil, "{\n  \"format\": %d,\n  \"node_id\": \"%s\",\n  \"volume_id\": \"%016x\",\n  \"created\": \"%s\",\n",
		v.format, v.nodeID, v.id, v.created.Format(time.RFC3339))
	return append(body, seal(body)...)
}

// decodeIdentity reads the content of the volume.json at path. Errors are ErrDamaged
// and ErrNewerFormat.
func decodeIdentity(data []byte, path string) (identity, error) {
	body := len(data) - sealLen
	if body < 0 || string(data[body:]) != seal(data[:body]) {
		return identity{}, damaged(path, "its checksum is not that of its content")
	}
	var form struct {
		Format   int    `json:"format"`
		NodeID   string `json:"node_id"`
		VolumeID string `json:"volume_id"`
		Created  string `json:"created"`
	}
	if err := json.Unmarshal(data, &form); err != nil {
		return identity{}, damaged(path, err.Error())
	}
	if form.Format > Format {
		return identity{}, fmt.Errorf("%w: %s says format %d, and this program knows formats up to %d: "+
			"run the version that wrote it or a later one, or use another storage.data_dir", ErrNewerFormat, path, form.Format, Format)
	}
	id, err := strconv.ParseUint(form.VolumeID, 16, 64)
	if err != nil {
		return identity{}, damaged(path, "volume_id: "+err.Error())
	}
	created, err := time.Parse(time.RFC3339, form.Created)
	if err != nil {
		return identity{}, damaged(path, "created: "+err.Error())
	}
	v := identity{format: form.Format, nodeID: form.NodeID, id: id, created: created}
	if checkNodeID(v.nodeID) != nil || v.format < 1 || v.id == 0 || string(v.encode()) != string(data) {
		return identity{}, damaged(path, "it is not of the form that is written")
	}
	return v, nil
}

// damaged is the error of a volume.json that is not as it was written.
func damaged(path, finding string) error {
	return fmt.Errorf("%w: %s: %s; the journal beside it is not concerned: \"merklekv data rename NODE_ID --yes\" "+
		"with the node_id of this node writes a new one", ErrDamaged, path, finding)
}
