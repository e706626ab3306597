package main

import (
	"context"
	"math"
	"runtime/debug"
	"testing"
	"testing/synctest"
)

func TestCollectAt(t *testing.T) {
	for _, c := range []struct {
		live  uint64
		limit int64
		want  int
	}{
		{0, math.MaxInt64, 3200}, {20 << 20, math.MaxInt64, 640}, {128 << 20, math.MaxInt64, 100}, {256 << 20, math.MaxInt64, 50}, {1 << 40, math.MaxInt64, 50},
		{20 << 20, 4 << 30, 640}, {20 << 20, 256 << 20, 160}, {100 << 20, 256 << 20, 50}, {20 << 20, 0, 50},
	} {
		if got := collectAt(c.live, c.limit); got != c.want {
			t.Errorf("%d bytes in use of %d: %d %%, want %d", c.live, c.limit, got, c.want)
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
