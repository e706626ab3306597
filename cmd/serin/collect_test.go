package main

import (
	"context"
	"math"
	"runtime/debug"
	"testing"
	"testing/synctest"
)

func TestCollectAt(t *testing.T) {
	const mb = 1 << 20
	for _, c := range []struct {
		live, lately uint64
		limit        int64
		want         int
	}{
		{0, 0, math.MaxInt64, 3200}, {20 * mb, 0, math.MaxInt64, 640}, {128 * mb, 0, math.MaxInt64, 100}, {256 * mb, 0, math.MaxInt64, 50}, {1 << 40, 0, math.MaxInt64, 50},
		{100 * mb, 100 * mb, math.MaxInt64, 128}, {80 * mb, 200 * mb, math.MaxInt64, 250}, {100 * mb, 1 << 40, math.MaxInt64, 188}, {300 * mb, 1 << 40, math.MaxInt64, 50}, {400 * mb, 1 << 40, math.MaxInt64, 50},
		{20 * mb, 0, 4 << 30, 640}, {20 * mb, 0, 256 * mb, 160}, {20 * mb, 1 << 40, 256 * mb, 160}, {100 * mb, 0, 256 * mb, 50}, {20 * mb, 0, 0, 50},
	} {
		if got := collectAt(c.live, c.lately, c.limit); got != c.want {
			t.Errorf("%d bytes in use of %d, %d lately: %d %%, want %d", c.live, c.limit, c.lately, got, c.want)
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
