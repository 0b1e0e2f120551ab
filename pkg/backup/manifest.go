package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"merklekv/pkg/internal/address"
	"merklekv/pkg/kv"
	"merklekv/pkg/merkle"
)

const (
	// Format is the format of backups that this program makes, and the newest that
	// it reads.
	Format = 1

	manifestName = "backup.json"
	journalName  = "journal"
	// maxManifest bounds a manifest in bytes: a hundred thousand files.
	maxManifest = 16 << 20
)

// Manifest says what a backup holds. In its file, backup.json, hashes and numbers
// of 64 bits are hexadecimal, and the checksum is the SHA-256 of the same text with
// an empty checksum.
type Manifest struct {
	Format  int       `json:"format"`
	Program string    `json:"program"` // version of the program that made it
	NodeID  string    `json:"node_id"`
	Volume  Hex64     `json:"volume"`  // identity of the volume that it was made of
	Created time.Time `json:"created"` // UTC, whole milliseconds

	// Contents say what the entries come to.
	Contents

	Bytes int64  `json:"bytes"` // of all files of the journal
	Files []File `json:"files"` // of the journal, by name

	Checksum string `json:"checksum"`
}

// Contents are what the entries of a journal come to.
//
// Root covers the set that [kv.Cut] shows at Epoch, the epoch of Version, with the
// truncation mark of the entries themselves and a tombstone grace without end. So it
// covers every entry of every facet, tombstones and the reserved key's included,
// except those that the truncation mark kills and those that had expired by the end
// of Epoch. It is the root of the canonical hash trie ([merkle.Tree.Root]) over
// them, Covered is how many they are, and Entries counts those that are not covered
// as well.
type Contents struct {
	Entries int64   `json:"entries"`
	Covered int64   `json:"covered"`
	Root    Root    `json:"root"`
	Epoch   int64   `json:"epoch"`
	Version Version `json:"version"` // the greatest of all entries; zero if there are none
}

// File is one file of a backup's journal.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Hex64 is a number that JSON holds as 16 hexadecimal digits.
type Hex64 uint64

// MarshalText returns the 16 digits.
func (h Hex64) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%016x", uint64(h)), nil }

// UnmarshalText reads what MarshalText wrote.
func (h *Hex64) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 16, 64)
	if err != nil || len(text) != 16 {
		return fmt.Errorf("%q is not 16 hexadecimal digits", text)
	}
	*h = Hex64(n)
	return nil
}

// Root is a Merkle root that JSON holds as 64 hexadecimal digits.
type Root merkle.Hash

// String returns the 64 digits.
func (r Root) String() string { return hex.EncodeToString(r[:]) }

// MarshalText returns the 64 digits.
func (r Root) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (r *Root) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(r)) {
		return fmt.Errorf("a root has %d hexadecimal digits, not %d", hex.EncodedLen(len(r)), len(text))
	}
	_, err := hex.Decode(r[:], text)
	return err
}

// Version is a [kv.Version] that JSON holds in its text form.
type Version kv.Version

// MarshalText returns the version's text form.
func (v Version) MarshalText() ([]byte, error) { return []byte(kv.Version(v).String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (v *Version) UnmarshalText(text []byte) error {
	parsed, err := kv.ParseVersion(string(text))
	*v = Version(parsed)
	return err
}

// Name returns the name of the backup's directory.
func (m *Manifest) Name() string { return nameOf(m.NodeID, m.Created) }

// encode returns the text of the manifest, with its checksum.
func (m Manifest) encode() ([]byte, error) {
	m.Checksum = ""
	text, err := m.text()
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(text)
	m.Checksum = hex.EncodeToString(digest[:])
	return m.text()
}

func (m *Manifest) text() ([]byte, error) {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	return append(text, '\n'), nil
}

// decodeManifest reads what encode wrote, and nothing else: any other text of the
// same meaning is damage, too.
func decodeManifest(text []byte) (Manifest, error) {
	var format struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(text, &format); err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", manifestName, err)
	}
	if format.Format > Format {
		return Manifest{}, fmt.Errorf("%w: %d, and this program reads up to %d; use the version that made it, or a later one",
			ErrNewerFormat, format.Format, Format)
	}
	var m Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", manifestName, err)
	}
	again, err := m.encode()
	if err != nil {
		return Manifest{}, err
	}
	if !bytes.Equal(again, text) {
		return Manifest{}, fmt.Errorf("%s is not as it was written: its checksum is wrong", manifestName)
	}
	return m, m.check()
}

// check reports what no manifest of this format has.
func (m *Manifest) check() error {
	total := int64(0)
	for i, f := range m.Files {
		switch {
		case !isFileName(f.Name), i > 0 && m.Files[i-1].Name >= f.Name:
			return fmt.Errorf("%s: file %d has the name %q", manifestName, i, f.Name)
		case f.Size < 0 || f.Size > math.MaxInt64-total:
			return fmt.Errorf("%s: %s has %d bytes", manifestName, f.Name, f.Size)
		}
		total += f.Size
	}
	switch {
	case m.Format != Format:
		return fmt.Errorf("%s: format %d", manifestName, m.Format)
	case !address.IsNodeID(m.NodeID):
		return fmt.Errorf("%s: node_id %.80q", manifestName, m.NodeID)
	case !m.Created.Equal(m.Created.Truncate(time.Millisecond)) || m.Created.Location() != time.UTC:
		return fmt.Errorf("%s: created %v", manifestName, m.Created)
	case m.Bytes != total || m.Entries < 0 || m.Covered < 0 || m.Covered > m.Entries:
		return fmt.Errorf("%s: %d of %d entries in %d bytes", manifestName, m.Covered, m.Entries, m.Bytes)
	}
	return nil
}

// isFileName reports whether a file of a directory can have that name, in any
// system: nothing that leads elsewhere.
func isFileName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= 255 && !strings.ContainsAny(name, "/\\\x00:")
}

// ReadManifest returns the manifest of the backup at path, in the system's files if
// files is nil. Its errors wrap
// ErrNoBackup, ErrDamaged or ErrNewerFormat, or are the file system's.
func ReadManifest(files vfs.FS, path string) (Manifest, error) {
	if files == nil {
		files = vfs.Default
	}
	f, err := files.Open(files.PathJoin(path, manifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return Manifest{}, fmt.Errorf("%w: %s has no %s", ErrNoBackup, path, manifestName)
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("open manifest: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	switch {
	case err != nil:
		return Manifest{}, fmt.Errorf("read manifest of %s: %w", path, err)
	case len(text) > maxManifest:
		return Manifest{}, damaged(path, "%s has more than %d bytes", manifestName, maxManifest)
	}
	m, err := decodeManifest(text)
	switch {
	case errors.Is(err, ErrNewerFormat):
		return Manifest{}, fmt.Errorf("%s: %w", path, err)
	case err != nil:
		return Manifest{}, damaged(path, "%w", err)
	}
	return m, nil
}

// byName is the order in which a manifest has its files.
func byName(a, b File) int { return strings.Compare(a.Name, b.Name) }
