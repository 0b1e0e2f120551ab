// Package cgroup finds the memory limit that Linux puts on the groups of processes
// in which this one is: what a container may use.
//
//	/proc/self/cgroup       which group this process is in, by hierarchy
//	/proc/self/mountinfo    where the hierarchies can be seen, and from which group on
//	memory.max              limit of a group, version 2: bytes or "max"
//	memory.limit_in_bytes   the same, version 1: bytes, without a limit a huge number
//
// Groups are nested and the least limit on the way up counts. The formats are those
// of cgroups(7), proc(5), and the kernel's admin-guide/cgroup-v2 and cgroup-v1/memory.
package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

const (
	groupsFile = "proc/self/cgroup"
	mountsFile = "proc/self/mountinfo"

	// unlimited is where numbers begin that mean no limit: version 1 shows the
	// greatest multiple of the page size in 63 bits.
	unlimited = 1 << 60
)

// Limit is a memory limit and where it stands. The zero Limit is none.
type Limit struct {
	Bytes int64
	File  string // path of the file, absolute
}

// MemoryLimit returns the least limit on this process. Root is the root of the file
// system. Where there are no groups there is no limit; errors are those of files that
// are there and cannot be read or understood.
func MemoryLimit(root fs.FS) (Limit, error) {
	groups, err := readGroups(root)
	if err != nil {
		return Limit{}, err
	}
	mounts, err := readMounts(root)
	if err != nil {
		return Limit{}, err
	}
	var least Limit
	for _, m := range mounts {
		group, in := groups[m.version]
		if !in {
			continue
		}
		l, err := leastOf(root, m, group)
		if err != nil {
			return Limit{}, err
		}
		if l.Bytes > 0 && (least.Bytes == 0 || l.Bytes < least.Bytes) {
			least = l
		}
	}
	return least, nil
}

// version is a kind of hierarchy that can limit memory.
type version uint8

const (
	v1 version = 1 // the hierarchy of the memory controller
	v2 version = 2 // the one hierarchy
)

func (v version) file() string {
	if v == v1 {
		return "memory.limit_in_bytes"
	}
	return "memory.max"
}

// readGroups returns the groups of this process. A line is number:controllers:path;
// version 2 has number 0 and no controllers.
func readGroups(root fs.FS) (map[version]string, error) {
	groups := make(map[version]string)
	err := eachLine(root, groupsFile, func(line string) {
		number, rest, _ := strings.Cut(line, ":")
		controllers, group, ok := strings.Cut(rest, ":")
		switch {
		case !ok:
		case number == "0" && controllers == "":
			groups[v2] = group
		case slices.Contains(strings.Split(controllers, ","), "memory"):
			groups[v1] = group
		}
	})
	return groups, err
}

// mount is a hierarchy where it can be seen: at point lies the group that is named
// root.
type mount struct {
	version     version
	root, point string
}

// readMounts returns the mounts of hierarchies that can limit memory. A line is
//
//	id parent major:minor ROOT POINT options [tags] - TYPE source SUPEROPTIONS
func readMounts(root fs.FS) ([]mount, error) {
	var mounts []mount
	err := eachLine(root, mountsFile, func(line string) {
		before, after, _ := strings.Cut(line, " - ")
		place, kind := strings.Fields(before), strings.Fields(after)
		if len(place) < 5 || len(kind) < 1 {
			return
		}
		m := mount{root: unescape(place[3]), point: unescape(place[4])}
		switch {
		case kind[0] == "cgroup2":
			m.version = v2
		case kind[0] == "cgroup" && len(kind) >= 3 && slices.Contains(strings.Split(kind[2], ","), "memory"):
			m.version = v1
		default:
			return
		}
		mounts = append(mounts, m)
	})
	return mounts, err
}

// unescape undoes what the kernel does to blanks and backslashes in a path: \ and
// three octal digits.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// eachLine calls fn for every line of a file; it is no error if there is none.
func eachLine(root fs.FS, name string, fn func(string)) error {
	f, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read memory limit: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fn(lines.Text())
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read memory limit: /%s: %w", name, err)
	}
	return nil
}

// leastOf returns the least limit of a group and those above it, as far as they can
// be seen. A group outside of what is mounted, as in a container that is told its
// path on the host or not at all, is the one at the mount point.
func leastOf(root fs.FS, m mount, group string) (Limit, error) {
	var least Limit
	for rel := m.inside(group); ; rel = path.Dir(rel) {
		l, err := limitIn(root, path.Join(m.point, rel), m.version)
		if err != nil {
			return Limit{}, err
		}
		if l.Bytes > 0 && (least.Bytes == 0 || l.Bytes < least.Bytes) {
			least = l
		}
		if rel == "/" {
			return least, nil
		}
	}
}

// inside returns a group's path below the mount point, beginning with a slash.
func (m mount) inside(group string) string {
	group, top := path.Clean("/"+group), path.Clean("/"+m.root)
	if top == "/" {
		return group
	}
	if rest, below := strings.CutPrefix(group, top); below && (rest == "" || rest[0] == '/') {
		return path.Clean("/" + rest)
	}
	return "/"
}

// limitIn reads the limit in a group's directory, none if it has no such file.
func limitIn(root fs.FS, dir string, v version) (Limit, error) {
	file := path.Join("/", dir, v.file())
	text, err := fs.ReadFile(root, file[1:])
	if errors.Is(err, fs.ErrNotExist) {
		return Limit{}, nil
	}
	if err != nil {
		return Limit{}, fmt.Errorf("read memory limit: %w", err)
	}
	word := strings.TrimSpace(string(text))
	if word == "max" || word == "-1" {
		return Limit{}, nil
	}
	n, err := strconv.ParseUint(word, 10, 64)
	if err != nil {
		return Limit{}, fmt.Errorf("read memory limit: %s: %.40q is no number of bytes", file, word)
	}
	if n >= unlimited {
		return Limit{}, nil
	}
	return Limit{int64(n), file}, nil
}
