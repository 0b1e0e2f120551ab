package disk

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

var (
	// ErrFailed is wrapped by what Wait and Close return once a write or a sync has
	// failed. It is never tried again: what the system did with the pages is
	// unknown, so nothing after it can be called durable.
	ErrFailed = errors.New("the disk failed")
	// ErrDamaged is wrapped by errors of files whose content is not what was
	// written.
	ErrDamaged = errors.New("journal is damaged")
	// ErrNewer is wrapped when a newer program wrote the journal.
	ErrNewer = errors.New("journal was written by a newer version")
)

// DamageError says which file of a journal is not what was written. It wraps
// ErrDamaged.
type DamageError struct {
	File string // path; empty if it is not known
	Err  error
}

func (e *DamageError) Error() string {
	if e.File == "" {
		return fmt.Sprintf("%v: %v", ErrDamaged, e.Err)
	}
	return fmt.Sprintf("%v: %s: %v", ErrDamaged, e.File, e.Err)
}

func (e *DamageError) Unwrap() []error { return []error{ErrDamaged, e.Err} }

// damageIn is damage with the name of a file that is used if the error has none.
func damageIn(file string, err error) error {
	err = damage(err)
	var d *DamageError
	if errors.As(err, &d) && d.File == "" {
		return &DamageError{File: file, Err: d.Err}
	}
	return err
}

// damage makes a DamageError of what Pebble calls corruption; other errors it
// returns as they are.
func damage(err error) error {
	var known *DamageError
	if err == nil || errors.As(err, &known) || !pebble.IsCorruptionError(err) && !errors.Is(err, ErrDamaged) {
		return err
	}
	d := &DamageError{Err: err}
	if info := pebble.ExtractDataCorruptionInfo(err); info != nil {
		d.File = info.Path
	}
	return d
}
