package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"syscall"
	"time"

	"serin.dev/serin/internal/bench/load"
)

// full returns how many native events a second the server takes, and measures
// it where no section before has.
func (b *bench) full(ctx context.Context) (float64, error) {
	if b.capacity > 0 {
		return b.capacity, nil
	}
	r, _, err := b.once(ctx, &contenders[0])
	if err != nil {
		return 0, err
	}
	b.capacity = r.AcceptedPerSecond
	return b.capacity, nil
}

// with runs fn beside a fresh Serin.
func (b *bench) with(ctx context.Context, quota float64, fn func(*server) error) (err error) {
	s, err := b.start(ctx, "serin", quota)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	return fn(s)
}

// each runs fn beside a fresh Serin in each round.
func (b *bench) each(ctx context.Context, fn func(*server) (*load.Report, error)) (rs []*load.Report, err error) {
	for range b.rounds {
		err := b.with(ctx, 0, func(s *server) error {
			r, err := fn(s)
			rs = append(rs, r)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return rs, nil
}

// otherFiles are the files and connections of a server and a load beside the
// idle ones: what the server keeps back from connections, and those that send.
const otherFiles = 900

// mostIdle is how many websockets both ends may hold open.
func (b *bench) mostIdle() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return b.idle // the load says so where it is too much
	}
	return min(b.idle, int(l.Max)-otherFiles)
}

// latency measures the acknowledgement at half of what the server takes.
func (b *bench) latency(ctx context.Context) error {
	rate, err := b.full(ctx)
	if err != nil {
		return err
	}
	idle := b.mostIdle()
	fmt.Printf("\n| half load: %.0f events/s, native | p50 ms | p99 ms | p99.9 ms | late p99 ms | peak RSS MB | connections |\n| --- | --- | --- | --- | --- | --- | --- |\n", rate/2)
	for _, c := range []struct {
		name string
		idle int
	}{{fmt.Sprintf("%d connections that send", fullConnections), 0}, {"and as many as may be that are idle", idle}} {
		rs, err := b.each(ctx, func(s *server) (*load.Report, error) {
			return b.besideIdle(ctx, s, sent{key: "pk_good", format: "native", rate: rate / 2, connections: fullConnections}, c.idle)
		})
		if err != nil {
			return err
		}
		b.row(c.name, rs, rs[0].Connections+c.idle)
	}
	// As fast as it is answered each connection waits for all the others' turns:
	// p50 is in proportion to them, and whatever p99 is beyond that is a stall.
	fmt.Printf("\n| full load, native, by connections | p50 ms | p99 ms | p99.9 ms | late p99 ms | peak RSS MB | connections |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	for _, n := range []int{64, fullConnections, 512, 2048} {
		rs, err := b.each(ctx, func(s *server) (*load.Report, error) {
			return b.load(ctx, s, sent{key: "pk_good", format: "native", connections: n})
		})
		if err != nil {
			return err
		}
		b.row(fmt.Sprintf("%.0f events/s", median(rs, func(r *load.Report) float64 { return r.AcceptedPerSecond })), rs, n)
	}
	if idle < b.idle {
		fmt.Printf("\nOf %d idle connections %d could be open: a process may have %d files on this machine.\n", b.idle, idle, idle+otherFiles)
	}
	return nil
}

// besideIdle puts a load on a server while websockets are open that another
// process holds: to hold them in the one that sends would delay what it sends,
// which is not the server's doing.
func (b *bench) besideIdle(ctx context.Context, s *server, main sent, idle int) (_ *load.Report, err error) {
	if idle == 0 {
		return b.load(ctx, s, main)
	}
	held, release := context.WithCancel(ctx)
	holder := make(chan error, 1)
	go func() {
		_, err := b.load(held, s, sent{key: "pk_good", format: "native", rate: 1, connections: 1, events: 1, idle: idle, blind: true, duration: time.Hour})
		holder <- err
	}()
	defer func() {
		release()
		if e := <-holder; held.Err() == nil {
			err = errors.Join(err, e)
		}
	}()
	for open := 0.; open < float64(idle); {
		select {
		case err := <-holder:
			holder <- nil
			return nil, fmt.Errorf("hold %d idle websockets: %w", idle, err)
		case <-time.After(200 * time.Millisecond):
		}
		if open, err = s.metric(ctx, "serin_ingest_streams_open"); err != nil {
			return nil, err
		}
	}
	r, err := b.load(ctx, s, main)
	if err != nil {
		return nil, err
	}
	if open, err := s.metric(ctx, "serin_ingest_streams_open"); err != nil || open < float64(idle) {
		return nil, errors.Join(fmt.Errorf("%.0f of %d idle websockets were open at the end", open, idle), err)
	}
	return r, nil
}

func (b *bench) row(name string, rs []*load.Report, connections int) {
	fmt.Printf("| %s | %.2f | %.2f | %.2f | %.2f | %.0f | %d |\n", name,
		median(rs, func(r *load.Report) float64 { return r.P50ms }), median(rs, func(r *load.Report) float64 { return r.P99ms }),
		median(rs, func(r *load.Report) float64 { return r.P999ms }), median(rs, func(r *load.Report) float64 { return r.LateP99ms }),
		highest(rs, func(r *load.Report) float64 { return float64(r.PeakRSSBytes) / 1e6 }), connections)
}

// isolation measures a good tenant's acknowledgements alone and beside others.
func (b *bench) isolation(ctx context.Context) error {
	full, err := b.full(ctx)
	if err != nil {
		return err
	}
	const times = 50
	quota := full / 4 / times
	good := sent{key: "pk_good", format: "native", rate: full / 4}
	fmt.Printf("\n| a tenant at a quarter of full load, native | p50 ms | p99 ms | p99.9 ms | late p99 ms | peak RSS MB | connections |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	for _, c := range []struct {
		name   string
		beside *sent
	}{
		{"alone", nil},
		{"beside a burst of poison: only mutated Faro bodies, as fast as they are answered", &sent{key: "pk_poison", format: "faro", hostile: 1, connections: 16}},
		{"beside a burst of poison: only mutated native bodies, as fast as they are answered", &sent{key: "pk_poison", format: "native", hostile: 1, connections: 16}},
		{fmt.Sprintf("beside a tenant at %d times its quota of %.0f events/s", times, quota), &sent{key: "pk_greedy", format: "native", rate: quota * times}},
	} {
		var rs []*load.Report
		for range b.rounds {
			err := b.with(ctx, quota, func(s *server) error {
				r, other, err := b.beside(ctx, s, good, c.beside)
				if err != nil {
					return err
				}
				if bad := r.Failed + r.Events - r.Accepted; bad > 0 {
					fmt.Fprintf(os.Stderr, "%s: the good tenant lost %d events, %d beacons failed: %v\n", c.name, r.Events-r.Accepted, r.Failed, r.Statuses)
				}
				if other != nil && other.Hostile+other.Beacons == 0 {
					return errors.New("the other tenant sent nothing")
				}
				rs = append(rs, r)
				return nil
			})
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
		b.row(c.name, rs, rs[0].Connections)
	}
	return nil
}

// beside puts one load on a server while another is on it, which begins before
// and ends after.
func (b *bench) beside(ctx context.Context, s *server, main sent, other *sent) (*load.Report, *load.Report, error) {
	if other == nil {
		r, err := b.load(ctx, s, main)
		return r, nil, err
	}
	around := *other
	around.blind, around.duration = true, b.duration+2*b.warmup
	var r *load.Report
	var rerr error
	done := make(chan struct{})
	var o *load.Report
	go func() {
		defer close(done)
		o, rerr = b.load(ctx, s, around)
	}()
	time.Sleep(b.warmup)
	main.blind = true // the server is not quiet while the other load is on it
	r, err := b.load(ctx, s, main)
	<-done
	return r, o, errors.Join(err, rerr)
}

// manySessions is how long a load lasts whose arms are compared: a tenth of the
// sessions are the canary's, and in less time they are too few to tell half a
// point from chance.
const manySessions = 30 * time.Second

// overload offers ten times what may be stored, by a tenant's quota and by
// what the server takes, and tells what was lost.
func (b *bench) overload(ctx context.Context) error {
	full, err := b.full(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("\n| overload | offered events/s | accepted | shed | not sent in time | failed or refused beacons | shed of accounting | shed of crashes | shed share: canary, baseline | apart, points |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, c := range []struct {
		name  string
		quota float64
		load  sent
	}{
		{"10 times a tenant's quota, native", full / 20, sent{key: "pk_greedy", format: "native", rate: full / 2, connections: 128}},
		{"10 times a tenant's quota, websocket", full / 20, sent{key: "pk_greedy", format: "stream", rate: full / 2, connections: 16, duration: manySessions}},
		{"10 times what the server takes, native", 0, sent{key: "pk_good", format: "native", rate: full * 10, connections: 512}},
		{"10 times what the server takes, websocket", 0, sent{key: "pk_good", format: "stream", rate: full * 10, connections: 64}},
	} {
		err := b.with(ctx, c.quota, func(s *server) error {
			r, err := b.load(ctx, s, c.load)
			if err != nil {
				return err
			}
			accounting, err := s.metric(ctx, "serin_ingest_shed_events_total", `class="accounting"`)
			if err != nil {
				return err
			}
			crashes, err := s.metric(ctx, "serin_ingest_shed_events_total", `class="crash"`)
			if err != nil {
				return err
			}
			share := func(arm string) float64 { return float64(r.Arms[arm].Shed) / float64(max(r.Arms[arm].Events, 1)) }
			refused := r.Failed
			for status, n := range r.Statuses {
				if status[0] != '2' {
					refused += int64(n)
				}
			}
			perUnit := int64(10)
			if c.load.format == "stream" {
				perUnit = 300
			}
			fmt.Printf("| %s | %.0f | %d | %d | %d | %d | %.0f | %.0f | %.4f, %.4f | %.2f |\n", c.name, c.load.rate, r.Accepted, r.Shed, r.Unsent*perUnit, refused,
				accounting, crashes, share("canary"), share("baseline"), 100*math.Abs(share("canary")-share("baseline")))
			return nil
		})
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}
