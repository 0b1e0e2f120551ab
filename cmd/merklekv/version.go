package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// Stamped by the linker: -X main.version=... and so on.
var (
	version = "0.0.0-dev"
	commit  = ""
	date    = ""
)

// shownLibraries are the ones whose version matters when something is reported.
var shownLibraries = []string{
	"github.com/eclipse/paho.mqtt.golang",
	"github.com/mochi-mqtt/server/v2",
	"github.com/knadh/koanf/v2",
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the version and what this was built from", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			info, _ := debug.ReadBuildInfo() // nil shows less
			return printVersion(a.stdout, info)
		},
	}
}

// printVersion writes the version, and what the build recorded.
func printVersion(w io.Writer, info *debug.BuildInfo) error {
	from, when := commit, date
	var libraries []string
	if info != nil {
		settings := make(map[string]string)
		for _, s := range info.Settings {
			settings[s.Key] = s.Value
		}
		from, when = firstOf(from, settings["vcs.revision"]), firstOf(when, settings["vcs.time"])
		libraries = libraryVersions(info.Deps)
	}
	lines := append([]string{
		"merklekv " + version,
		"commit " + firstOf(from, "unknown"),
		"date " + firstOf(when, "unknown"),
		fmt.Sprintf("go %s %s/%s", runtime.Version(), runtime.GOOS, runtime.GOARCH),
	}, libraries...)
	_, err := fmt.Fprintln(w, strings.Join(lines, "\n"))
	return err
}

// libraryVersions returns a line for each of the shown libraries.
func libraryVersions(deps []*debug.Module) []string {
	var lines []string
	for _, path := range shownLibraries {
		for _, dep := range deps {
			if dep.Path == path {
				lines = append(lines, path+" "+dep.Version)
			}
		}
	}
	return lines
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
