package journal_test

import (
	"testing"

	"merklekv/pkg/journal"
	"merklekv/pkg/journal/journaltest"
)

func TestMemory(t *testing.T) {
	journaltest.Run(t, func(testing.TB) journal.Journal { return journal.Memory{} })
}
