package ingest

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"serin.dev/serin/internal/bench/corpus"
	"serin.dev/serin/internal/bench/wire"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/journal"
	"serin.dev/serin/internal/tenant"
)

// forgetful acknowledges at once and keeps nothing.
type forgetful struct{ position atomic.Uint64 }

func (f *forgetful) Append(context.Context, []byte) (uint64, error) { return f.position.Add(1), nil }

// BenchmarkJournalShare sends beacons of 10 events over 64 connections to an
// edge with the real journal and to one that forgets them. The client is in the
// same process and costs both the same, so that the difference in CPU time is
// the journal's.
func BenchmarkJournalShare(b *testing.B) {
	for _, kind := range []string{"journal", "forgetful"} {
		b.Run(kind, func(b *testing.B) {
			var log Appender = &forgetful{}
			if kind == "journal" {
				j, err := journal.Open(b.Context(), journal.Options{Dir: b.TempDir()})
				if err != nil {
					b.Fatal(err)
				}
				defer j.Close()
				if log, err = j.Log(b.Context(), "events", journal.LogOptions{}); err != nil {
					b.Fatal(err)
				}
			}
			benchmarkEdge(b, log)
		})
	}
}

func benchmarkEdge(b *testing.B, log Appender) {
	d, err := tenant.NewDirectory([]tenant.Spec{{ID: "shop", Keys: []tenant.Key{{Key: "pk_open"}}}})
	if err != nil {
		b.Fatal(err)
	}
	e := New(Options{Tenants: d, Journal: log, Logger: slog.New(slog.DiscardHandler), Fail: func(err error) { b.Errorf("the journal failed: %v", err) }})
	ctx, cancel := context.WithCancel(context.Background())
	var edge sync.WaitGroup
	edge.Go(func() { _ = e.Run(ctx) })
	url, stop := listen(b, e)
	defer func() {
		stop()
		cancel()
		edge.Wait()
	}()
	const events, connections = 10, 64
	bodies, err := corpus.Encode(corpus.Native, corpus.Make(corpus.Options{Seed: 1, Sessions: 256, Events: events, Now: time.Now().UnixMilli()}))
	if err != nil {
		b.Fatal(err)
	}
	host := strings.TrimPrefix(url, "http://")
	head := corpus.Head(corpus.Native, host, "pk_open")
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	before := cpuTime(b)
	for range connections {
		wg.Go(func() {
			conn := wire.Conn{Host: host}
			defer conn.Close()
			var buf []byte
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				list := bodies[int(n)%len(bodies)]
				body := &list[int(n)/len(bodies)%len(list)]
				id := [corpus.SessionBytes]byte([]byte(fmt.Sprintf("%032x", n)))
				buf = wire.Request(buf[:0], head, body.Bytes)
				body.Stamp(buf[len(buf)-len(body.Bytes):], &id)
				a, err := conn.Do(buf)
				if err != nil || a.Status != 202 {
					b.Errorf("beacon %d: %v %+v", n, err, a)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N)/events, "cpu-ns/event")
}

// cpuTime is what this process has used.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkMessage takes messages of a websocket, of 300 events in beacons of
// 10 and of 150, up to the group that they are stored in, with no connection
// and no journal: what remains is decoding, admission and the group.
func BenchmarkMessage(b *testing.B) {
	for _, events := range []int{10, 150} {
		b.Run(fmt.Sprintf("%d", events), func(b *testing.B) {
			d, err := tenant.NewDirectory([]tenant.Spec{{ID: "shop", Keys: []tenant.Key{{Key: "pk_open"}}}})
			if err != nil {
				b.Fatal(err)
			}
			e := New(Options{Tenants: d, Journal: &forgetful{}, Logger: slog.New(slog.DiscardHandler), Fail: func(err error) { b.Errorf("the journal failed: %v", err) }})
			g, err := d.Key("pk_open")
			if err != nil {
				b.Fatal(err)
			}
			bodies, err := corpus.Encode(corpus.Native, corpus.Make(corpus.Options{Seed: 1, Sessions: 256, Events: events, Now: time.Now().UnixMilli()}))
			if err != nil {
				b.Fatal(err)
			}
			client := e.perimeter.Client(g, netip.MustParseAddr("203.0.113.7"), func(string) string { return "" }, time.Now().UnixMilli())
			const message = 300
			var buf []byte
			sent, n := 0, 0
			b.ReportAllocs()
			before := cpuTime(b)
			for b.Loop() {
				buf = buf[:0]
				for range message / events {
					list := bodies[n%len(bodies)]
					body := &list[n/len(bodies)%len(list)]
					n++
					id := [corpus.SessionBytes]byte([]byte(fmt.Sprintf("%032x", n)))
					buf = append(append(buf, '\n'), body.Bytes...)
					body.Stamp(buf[len(buf)-len(body.Bytes):], &id)
					sent += body.Events
				}
				for _, a := range first(e.message(g, &client, event.Production, buf)) {
					if a.Error != nil {
						b.Fatalf("refused: %+v", a.Error)
					}
				}
				if e.batcher.full() {
					e.batcher.take()
				}
			}
			b.ReportMetric(float64(cpuTime(b)-before)/float64(sent), "cpu-ns/event")
		})
	}
}

func first[A, B any](a A, _ B) A { return a }
