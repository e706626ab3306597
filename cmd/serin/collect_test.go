package main

import (
	"context"
	"runtime/debug"
	"testing"
	"testing/synctest"
)

func TestCollectAt(t *testing.T) {
	for live, want := range map[uint64]int{0: 3200, 20 << 20: 640, 128 << 20: 100, 256 << 20: 50, 1 << 40: 50} {
		if got := collectAt(live); got != want {
			t.Errorf("%d bytes in use: %d %%, want %d", live, got, want)
		}
	}
}

// TestCollect: the collector is set at once.
func TestCollect(t *testing.T) {
	was := debug.SetGCPercent(100)
	defer debug.SetGCPercent(was)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		go collect(ctx)
		synctest.Wait()
		if got := debug.SetGCPercent(100); got < gcPercent || got == 100 {
			t.Errorf("garbage at %d %%", got)
		}
		cancel()
	})
}
