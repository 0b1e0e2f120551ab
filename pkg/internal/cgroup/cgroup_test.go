package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

// What real machines show, shortened to what matters.
const (
	mounts1 = `22 1 254:0 / / rw,relatime - ext4 /dev/vda1 rw
31 23 0:28 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
35 31 0:31 / /sys/fs/cgroup/cpuset rw,nosuid shared:14 - cgroup cgroup rw,cpuset
36 31 0:32 / /sys/fs/cgroup/memory rw,nosuid shared:15 - cgroup cgroup rw,memory
`
	mountsContainer1 = `655 543 0:53 / / rw,relatime - overlay overlay rw,lowerdir=/l
703 700 0:27 /docker/6d41 /sys/fs/cgroup/cpu,cpuacct ro,nosuid master:11 - cgroup cgroup rw,cpu,cpuacct
706 700 0:32 /docker/6d41 /sys/fs/cgroup/memory ro,nosuid master:15 - cgroup cgroup rw,memory
`
	mounts2 = `25 30 0:23 / /sys rw,nosuid shared:7 - sysfs sysfs rw
28 25 0:25 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
`
	mountsHybrid = mounts1 + "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
	mountsBlank  = `28 25 0:25 / /mnt/my\040groups rw - cgroup2 cgroup2 rw
`
	none1 = "9223372036854771712\n"
)

func TestMemoryLimit(t *testing.T) {
	for name, c := range map[string]struct {
		groups, mounts string
		files          map[string]string
		want           Limit
	}{
		"no groups at all": {},
		"version 1, on the host": {"12:memory:/user.slice\n11:cpu,cpuacct:/\n", mounts1,
			map[string]string{"sys/fs/cgroup/memory/user.slice/memory.limit_in_bytes": "1073741824\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": none1},
			Limit{1 << 30, "/sys/fs/cgroup/memory/user.slice/memory.limit_in_bytes"}},
		"version 1, several controllers in one": {"4:cpuset,memory:/a\n", mounts1,
			map[string]string{"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "4096"},
			Limit{4096, "/sys/fs/cgroup/memory/a/memory.limit_in_bytes"}},
		"version 1, without a limit": {"12:memory:/a\n", mounts1,
			map[string]string{"sys/fs/cgroup/memory/a/memory.limit_in_bytes": none1, "sys/fs/cgroup/memory/memory.limit_in_bytes": "-1"}, Limit{}},
		"version 1, in a container": {"10:memory:/docker/6d41\n", mountsContainer1,
			map[string]string{"sys/fs/cgroup/memory/memory.limit_in_bytes": "536870912\n"},
			Limit{512 << 20, "/sys/fs/cgroup/memory/memory.limit_in_bytes"}},
		"version 1, in a container within one": {"10:memory:/docker/6d41/inner\n", mountsContainer1,
			map[string]string{"sys/fs/cgroup/memory/memory.limit_in_bytes": "536870912\n", "sys/fs/cgroup/memory/inner/memory.limit_in_bytes": "268435456\n"},
			Limit{256 << 20, "/sys/fs/cgroup/memory/inner/memory.limit_in_bytes"}},
		"version 1, a neighbour with a longer name": {"10:memory:/docker/6d41x\n", mountsContainer1,
			map[string]string{"sys/fs/cgroup/memory/memory.limit_in_bytes": "5000\n", "sys/fs/cgroup/memory/x/memory.limit_in_bytes": "4000\n"},
			Limit{5000, "/sys/fs/cgroup/memory/memory.limit_in_bytes"}},
		"version 2, in a container of its own": {"0::/\n", mounts2,
			map[string]string{"sys/fs/cgroup/memory.max": "268435456\n"}, Limit{256 << 20, "/sys/fs/cgroup/memory.max"}},
		"version 2, nested: the least counts": {"0::/kubepods.slice/pod1/c1\n", mounts2,
			map[string]string{
				"sys/fs/cgroup/kubepods.slice/memory.max":         "8589934592\n",
				"sys/fs/cgroup/kubepods.slice/pod1/memory.max":    "1073741824\n",
				"sys/fs/cgroup/kubepods.slice/pod1/c1/memory.max": "2147483648\n",
			}, Limit{1 << 30, "/sys/fs/cgroup/kubepods.slice/pod1/memory.max"}},
		"version 2, max": {"0::/a\n", mounts2, map[string]string{"sys/fs/cgroup/a/memory.max": "max\n"}, Limit{}},
		"version 2, max below a limit": {"0::/a/b\n", mounts2,
			map[string]string{"sys/fs/cgroup/a/memory.max": "1000000\n", "sys/fs/cgroup/a/b/memory.max": "max\n"},
			Limit{1000000, "/sys/fs/cgroup/a/memory.max"}},
		"version 2, a group that cannot be seen": {"0::/../../other\n", mounts2,
			map[string]string{"sys/fs/cgroup/memory.max": "1000000\n"}, Limit{1000000, "/sys/fs/cgroup/memory.max"}},
		"both, memory in version 1": {"9:memory:/a\n0::/a\n", mountsHybrid,
			map[string]string{"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "7340032\n", "sys/fs/cgroup/unified/a/cgroup.procs": "1\n"},
			Limit{7 << 20, "/sys/fs/cgroup/memory/a/memory.limit_in_bytes"}},
		"a path with a blank": {"0::/a b:c\n", mountsBlank,
			map[string]string{"mnt/my groups/a b:c/memory.max": "1000000\n"}, Limit{1000000, "/mnt/my groups/a b:c/memory.max"}},
		"nonsense lines": {"\nx\n0:\n:::\n", "\n- cgroup2\n1 2 3 - cgroup2\n - \n1 2 3 4 5 - cgroup\n", nil, Limit{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := MemoryLimit(machine(c.groups, c.mounts, c.files))
			if err != nil || got != c.want {
				t.Errorf("%+v, %v; want %+v", got, err, c.want)
			}
		})
	}
}

// machine is a file system that shows groups.
func machine(groups, mounts string, files map[string]string) fstest.MapFS {
	root := fstest.MapFS{}
	add := func(name, text string) { root[name] = &fstest.MapFile{Data: []byte(text)} }
	if groups != "" {
		add(groupsFile, groups)
	}
	if mounts != "" {
		add(mountsFile, mounts)
	}
	for name, text := range files {
		add(name, text)
	}
	return root
}

func TestWhatCannotBeUnderstood(t *testing.T) {
	for _, text := range []string{"", "much\n", "-5\n", "1e9\n", "99999999999999999999999\n"} {
		_, err := MemoryLimit(machine("0::/\n", mounts2, map[string]string{"sys/fs/cgroup/memory.max": text}))
		if err == nil || !strings.Contains(err.Error(), "/sys/fs/cgroup/memory.max") {
			t.Errorf("%q gives %v", text, err)
		}
	}
	long := strings.Repeat("x", 1<<20)
	if _, err := MemoryLimit(machine(long, mounts2, nil)); err == nil {
		t.Error("an endless line is read")
	}
	if _, err := MemoryLimit(closedFS{}); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("files that may not be read give %v", err)
	}
}

// closedFS lets nobody read.
type closedFS struct{}

func (closedFS) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
}

// The machine that runs this can be read, whatever it says.
func TestThisMachine(t *testing.T) {
	l, err := MemoryLimit(os.DirFS("/"))
	if err != nil || l.Bytes < 0 || l.Bytes >= unlimited {
		t.Errorf("%+v, %v", l, err)
	}
	t.Logf("%+v", l)
}

func FuzzMemoryLimit(f *testing.F) {
	f.Add("0::/a\n", mounts2, "4096\n")
	f.Add("4:memory:/docker/6d41\n", mountsContainer1, "max")
	f.Fuzz(func(t *testing.T, groups, mounts, limit string) {
		root := machine(groups, mounts, map[string]string{
			"sys/fs/cgroup/a/memory.max": limit, "sys/fs/cgroup/memory/memory.limit_in_bytes": limit,
		})
		if l, err := MemoryLimit(root); err == nil && (l.Bytes < 0 || l.Bytes >= unlimited) {
			t.Errorf("a limit of %d", l.Bytes)
		}
	})
}
