package analysis

import (
	"context"
	"syscall"
	"testing"
)

// TestAside: work runs on a thread of lower priority, and the one that asks for it keeps
// its own.
func TestAside(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	nice := func() int {
		t.Helper()
		raw, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
		if err != nil {
			t.Fatal(err)
		}
		return 20 - raw
	}
	own := nice()
	a := newAside(ctx)
	var there int
	a.do(func() { there = nice() })
	if want := min(own+nicer, 19); there != want || nice() != own {
		t.Errorf("nice %d aside and %d here, want %d and %d", there, nice(), want, own)
	}
	end()
	for range 100 { // the threads of goroutines that end while they are locked are not used again
		a.do(func() { there = nice() })
		if there != own {
			t.Fatalf("nice %d after the end, want %d", there, own)
		}
	}
}
