package backup

import "testing"

// EncodeManifest returns the text of a manifest, with a right checksum.
func EncodeManifest(t testing.TB, m Manifest) []byte {
	t.Helper()
	text, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// DecodeManifest reads the text of a manifest.
var DecodeManifest = decodeManifest
