package analysis

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/batch"
	"serin.dev/serin/internal/store/journal"
	"serin.dev/serin/internal/store/segment"
	"serin.dev/serin/internal/tenant"
)

// traffic makes messages of the journal: beacons of so many events each, as
// pages send them, of 4 apps with 3 releases each.
func traffic(tb testing.TB, beacons, events int, now int64) (messages []journal.Message, rows int) {
	tb.Helper()
	id, err := tenant.Stored("shop")
	if err != nil {
		tb.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	var g batch.Group
	for n := range beacons {
		release := pick("2.3.9", "2.4.0", "2.4.1")
		b := &event.Beacon{SDK: "serin-js/1.0.0", App: pick("shop", "news", "bank", "maps"), Release: event.Release(release), Session: fmt.Sprintf("%032x", n/3), Seq: uint32(n % 3),
			Sent: now - 40, Received: now + int64(n/100), Arms: []event.Arm{{Change: "release/2.4.1", Variant: pick("canary", "baseline")}},
			Ctx: event.Context{Platform: "web", OS: pick("iOS 26", "Android 16", "Windows 11"), Browser: pick("Chrome 143", "Safari 26"), Device: pick("mobile", "desktop", "tablet"),
				Network: pick("4g", "wifi"), Country: pick("DE", "FR", "US"), Page: fmt.Sprintf("/page/%d", r.IntN(50)), Prefix: fmt.Sprintf("%011d", r.IntN(500))}}
		for i := range events {
			at := b.Received - int64(r.IntN(10_000))
			switch i % 3 {
			case 0:
				b.Events = append(b.Events, event.One{Kind: event.Vital, Name: pick("LCP", "INP", "FCP", "TTFB"), Time: at, Value: float64(r.IntN(30000)) / 10, HasVal: true, Unit: "ms",
					Attrs: []event.Attr{{Key: "rating", Text: pick("good", "poor")}}})
			case 1:
				b.Events = append(b.Events, event.One{Kind: event.Request, Name: fmt.Sprintf("GET /api/%d", r.IntN(40)), Time: at, Value: float64(r.IntN(900)), HasVal: true, Unit: "ms",
					Attrs: []event.Attr{{Key: "status", Num: true, Number: 200}}})
			case 2:
				b.Events = append(b.Events, event.One{Kind: event.Resource, Name: fmt.Sprintf("/assets/%d.js", r.IntN(40)), Time: at, Value: float64(r.IntN(900)), HasVal: true, Unit: "ms"})
			}
		}
		rows += len(b.Events)
		g.Add(id, b)
		if g.Size() >= 256<<10 || n == beacons-1 {
			messages = append(messages, journal.Message{Pos: uint64(len(messages) + 1), Data: g.Seal()})
		}
	}
	return messages, rows
}

// BenchmarkEngine folds the messages of a journal, and then seals what was
// folded: what the analysis costs for an event. The sessions take part in no
// rollout, or in one of 20 that are under way.
func BenchmarkEngine(b *testing.B) {
	for _, events := range []int{10, 150} {
		for _, rollouts := range []int{0, 20} {
			b.Run(fmt.Sprintf("events=%d/rollouts=%d", events, rollouts), func(b *testing.B) {
				messages, rows := traffic(b, 200_000/events, events, time.Now().UnixMilli())
				b.ReportAllocs()
				var folding, sealing time.Duration // of the CPU, which others may keep busy
				for b.Loop() {
					b.StopTimer()
					e := idle(b, b.TempDir(), rollouts)
					b.StartTimer()
					began := cpuTime(b)
					for _, m := range messages {
						if err := e.message(m); err != nil {
							b.Fatal(err)
						}
					}
					folded := cpuTime(b)
					if err := e.seal(b.Context(), false, nil); err != nil {
						b.Fatal(err)
					}
					folding += folded - began
					sealing += cpuTime(b) - folded
				}
				n := float64(b.N) * float64(rows)
				b.ReportMetric(float64(folding.Nanoseconds())/n, "fold-cpu-ns/event")
				b.ReportMetric(float64(sealing.Nanoseconds())/n, "seal-cpu-ns/event")
			})
		}
	}
}

// idle returns an engine that reads no journal, and has rollouts of as many
// tenants, the last of them that of the traffic.
func idle(tb testing.TB, dir string, rollouts int) *Engine {
	tb.Helper()
	segments, err := segment.Open(dir + "/segments")
	if err != nil {
		tb.Fatal(err)
	}
	e := &Engine{o: Options{Segments: segments, Checkpoint: dir + "/checkpoint", Logger: slog.New(slog.DiscardHandler), Now: time.Now}, metrics: newMetricSet(), fold: newFold(),
		latest: map[rolloutKey]*issued{}, records: map[rolloutKey][]Record{}, ledgered: map[rolloutKey]int{}, recent: map[string]*ring{}, changed: make(chan struct{}), pending: map[batch.Partition]*batch.Batch{}}
	for i := range rollouts {
		r := canary.Rollout{ID: "r", App: "shop", Change: "release/2.4.1", Canary: "2.4.1", Baseline: "2.4.0", Stages: []canary.Stage{{Weight: 0.5}}}
		if err := r.Normalize(); err != nil {
			tb.Fatal(err)
		}
		name := fmt.Sprintf("tenant-%d", i)
		if i == rollouts-1 {
			name = "shop"
		}
		e.fold.apply(Record{Type: TypeRollout, Tenant: name, ID: "r", At: time.Now().UnixMilli(), Rollout: &r})
	}
	return e
}

// cpuTime is what this process has used.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
