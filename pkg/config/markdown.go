package config

import (
	"fmt"
	"strings"
)

// markdownHead begins CONFIGURATION.md.
const markdownHead = `# Configuration

Made from the key table of this package by ` + "`go test ./pkg/config -run Documentation -update`" + `; do not edit.

Four layers, each over the one before: defaults, the TOML file (` + "`--config`" + `), environment variables, flags.
A key ` + "`section.key`" + ` is set by the variable ` + "`MERKLE_KV_SECTION_KEY`" + `; a list is written there with commas between its entries.
Of a key marked *secret*, ` + "`MERKLE_KV_SECTION_KEY_FILE`" + ` names a file that holds the value (a list has one entry a line; one newline at the end does not count).
Unknown keys and unknown ` + "`MERKLE_KV_`" + ` variables are errors. Time spans are whole seconds unless the name says otherwise.
*Reload* says that a change of the file, or SIGHUP, brings the new value into effect without a restart.
*Later* marks a key that is read and checked but has no effect in this version; the node says so when it is set.
`

// Markdown returns the documentation of all keys.
func Markdown() string {
	var b strings.Builder
	b.WriteString(markdownHead)
	section := "none yet"
	for _, key := range Keys() {
		if key.Section() != section {
			section = key.Section()
			title := "Top level"
			if section != "" {
				title = "[" + section + "]"
			}
			fmt.Fprintf(&b, "\n## %s\n\n| key | type | valid | default | flag | meaning |\n|---|---|---|---|---|---|\n", title)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n",
			lastPart(key.Name), key.Kind, key.validText(), key.defaultText(), key.flagText(), key.meaningText())
	}
	return b.String()
}

// validText says which values of an Int or of a choice are valid.
func (k Key) validText() string {
	switch {
	case k.Kind == Int && k.OrZero:
		return fmt.Sprintf("0, or %d to %d%s", k.Min, k.Max, k.unitSuffix())
	case k.Kind == Int:
		return fmt.Sprintf("%d to %d%s", k.Min, k.Max, k.unitSuffix())
	case len(k.Choices) > 0:
		return "`" + strings.Join(k.Choices, "`, `") + "`"
	}
	return ""
}

func (k Key) defaultText() string {
	switch k.Default() {
	case `""`:
		return k.Derived
	case "[]":
		return "`[]`"
	}
	if k.Derived != "" {
		return fmt.Sprintf("`%s` (%s)", k.Default(), k.Derived)
	}
	return "`" + k.Default() + "`"
}

func (k Key) flagText() string {
	if k.Flag == "" {
		return ""
	}
	return "`--" + k.Flag + "`"
}

func (k Key) meaningText() string {
	var marks []string
	if k.Secret {
		marks = append(marks, "secret")
	}
	if k.Reloadable {
		marks = append(marks, "reload")
	}
	if k.Status == Later {
		marks = append(marks, "later")
	}
	if len(marks) == 0 {
		return k.Meaning
	}
	return fmt.Sprintf("%s (*%s*)", k.Meaning, strings.Join(marks, ", "))
}
