package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"serin.dev/serin/internal/bench/mutate"
	"serin.dev/serin/internal/bench/process"
	"serin.dev/serin/internal/bench/wire"
	"serin.dev/serin/internal/store/batch"
	"serin.dev/serin/internal/store/segment"
)

const (
	goodTenant, goodKey = "good", "pk_good"
	badKeys             = 64 // a breaker that trips for one key must not end the test of a protocol
	// perSession is what the server may keep of a session, which it knows for
	// hours so that a repetition counts once: twice what it takes, since the
	// collector lets the heap grow to twice what is alive.
	perSession = 2 << 10
)

// result is what a run came to.
type result struct {
	bad           *counts
	took          time.Duration
	good          int // acknowledged
	retries       int
	longest       time.Duration
	stored        int // of the good tenant
	lost, twice   int
	short         int // stored with fewer events than acknowledged
	sessions      int // stored, of all tenants
	warm, end     int64
	tastersKilled float64
}

func (r *result) print(w io.Writer) {
	fmt.Fprintf(w, "%d mutated beacons in %v\n", r.bad.sum(), r.took.Round(time.Second))
	for _, list := range []struct {
		name string
		of   map[string]int64
	}{{"protocols", r.bad.sent}, {"mutations", r.bad.kinds}, {"outcomes", r.bad.statuses}} {
		var parts []string
		for _, k := range slices.Sorted(maps.Keys(list.of)) {
			parts = append(parts, fmt.Sprintf("%s %d", k, list.of[k]))
		}
		fmt.Fprintf(w, "%-10s %s\n", list.name, strings.Join(parts, ", "))
	}
	fmt.Fprintf(w, "good       %d beacons acknowledged, the longest after %v, %d sent again; %d stored, %d lost, %d twice, %d incomplete\n", r.good, r.longest.Round(time.Millisecond), r.retries, r.stored, r.lost, r.twice, r.short)
	fmt.Fprintf(w, "server     one process from start to end; memory at most %.0f MB in the second tenth, %.0f MB in the last, which knows %d sessions; %.0f tasters died\n", float64(r.warm)/1e6, float64(r.end)/1e6, r.sessions, r.tastersKilled)
}

// run starts a server, attacks it and looks at what is left. The result is nil
// where it did not get so far.
func run(ctx context.Context, o *options, progress io.Writer) (_ *result, err error) {
	all, err := seeds(o.corpora)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "serin-fuzz-*")
	if err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a port: %w", err)
	}
	host := l.Addr().String()
	l.Close()
	keys := make([]string, badKeys)
	var list strings.Builder
	for i := range keys {
		keys[i] = fmt.Sprintf("pk_bad%02d", i)
		fmt.Fprintf(&list, "{key: %s}, ", keys[i])
	}
	text := fmt.Sprintf("listen: %s\ndata: %s\nseal_after: 2s\nedge: {trusted_proxies: [127.0.0.0/8]}\ntenants:\n  - {id: %s, keys: [{key: %s}]}\n  - {id: bad, keys: [%s]}\n", host, filepath.Join(dir, "data"), goodTenant, goodKey, list.String())
	file := filepath.Join(dir, "serin.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("write a configuration: %w", err)
	}
	server, err := start(ctx, o, host, file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = server.Stop() }() // it has ended where all is well
	r := &result{bad: newCounts()}
	began := time.Now()
	rec := &record{acked: map[string]int{}}
	attack, stopAttack := context.WithCancel(ctx)
	defer stopAttack()
	goodCtx, stopGood := context.WithCancel(ctx)
	defer stopGood()
	var bad, good sync.WaitGroup
	for i := range uint64(2) {
		good.Go(func() { rec.send(goodCtx, host, i) })
	}
	for i := range o.workers {
		a := &attacker{host: host, seeds: all, keys: keys, rng: rand.New(rand.NewPCG(o.seed, uint64(i))), mut: mutate.New(o.seed, uint64(i)), conn: wire.Conn{Host: host}, out: r.bad}
		bad.Go(func() { a.run(attack, o.n) })
	}
	done := make(chan struct{})
	go func() { bad.Wait(); close(done) }()
	fault := r.watch(ctx, o, server, rec, done, progress)
	stopAttack()
	<-done
	if fault == nil {
		r.tastersKilled, fault = metric(host, "serin_taste_deaths_total")
	}
	stopGood()
	good.Wait()
	r.took = time.Since(began)
	r.good, r.retries, r.longest = len(rec.acked), rec.retries, rec.longest
	if fault == nil {
		fault = errors.Join(r.bad.fault, rec.fault, ctx.Err())
	}
	if fault != nil {
		return r, fmt.Errorf("%w\n%s", fault, server.Log())
	}
	if err := server.Stop(); err != nil {
		return r, fmt.Errorf("the server's end: %w", err)
	}
	return r, r.judge(ctx, o, host, file, filepath.Join(dir, "data"), rec)
}

// start starts the server and waits until it is ready.
func start(ctx context.Context, o *options, host, file string) (*process.Server, error) {
	s, err := process.Start(process.Options{Env: o.env}, o.serin, "serve", "--config", file)
	if err != nil {
		return nil, err
	}
	for range 1200 {
		if s.Ended() {
			break
		}
		if res, err := http.Get("http://" + host + "/readyz"); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return s, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), s.Stop())
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil, fmt.Errorf("the server does not become ready: %w\n%s", s.Stop(), s.Log())
}

// watch looks at the server's memory and life until the attack is done.
func (r *result) watch(ctx context.Context, o *options, s *process.Server, rec *record, done <-chan struct{}, progress io.Writer) error {
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	told := time.Now()
	for {
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		if s.Ended() {
			return errors.New("the server has ended")
		}
		u, err := process.Read(s.PID())
		if err != nil {
			return err
		}
		n := r.bad.sum()
		switch tenth := n * 10 / o.n; tenth {
		case 1:
			r.warm = max(r.warm, u.RSS)
		case 9, 10:
			r.end = max(r.end, u.RSS)
		}
		rec.mu.Lock()
		fault := rec.fault
		rec.mu.Unlock()
		if fault != nil {
			return fault
		}
		if time.Since(told) > 10*time.Second {
			told = time.Now()
			fmt.Fprintf(progress, "%d of %d, %.0f MB\n", n, o.n, float64(u.RSS)/1e6)
		}
	}
}

func metric(host, name string) (total float64, err error) {
	res, err := http.Get("http://" + host + "/metrics")
	if err != nil {
		return 0, fmt.Errorf("read metrics: %w", err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, fmt.Errorf("read metrics: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, name+"{") || strings.HasPrefix(line, name+" ") {
			v, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(strings.TrimSpace(line), ' '):]), 64)
			if err != nil {
				return 0, fmt.Errorf("read metrics: %q: %w", line, err)
			}
			total += v
		}
	}
	return total, nil
}

// judge holds what is stored against what was acknowledged. A server that
// ends seals what was folded; what was not is folded by the next one, which is
// ready when it has.
func (r *result) judge(ctx context.Context, o *options, host, file, data string, rec *record) error {
	again, err := start(ctx, o, host, file)
	if err != nil {
		return fmt.Errorf("start the server again: %w", err)
	}
	if err := again.Stop(); err != nil {
		return fmt.Errorf("the second server's end: %w", err)
	}
	store, err := segment.OpenReadOnly(filepath.Join(data, "segments"))
	if err != nil {
		return fmt.Errorf("open the segments: %w", err)
	}
	tenants, err := store.Tenants()
	if err != nil {
		return fmt.Errorf("list the tenants: %w", err)
	}
	rows, sessions := map[string]int{}, map[string]struct{}{}
	for _, id := range tenants {
		apps, err := store.Apps(id)
		if err != nil {
			return fmt.Errorf("list the apps: %w", err)
		}
		for _, app := range apps {
			err := store.Replay(ctx, id, app, func(b *batch.Batch, lo, hi int) error {
				session := b.Text(batch.Session, lo)
				sessions[id.String()+"/"+app+"/"+session] = struct{}{}
				if id.String() != goodTenant {
					return nil
				}
				name := session + "/" + strconv.Itoa(int(b.Seq(lo)))
				if _, there := rows[name]; there {
					r.twice++
				}
				rows[name] = hi - lo
				return nil
			})
			if err != nil {
				return fmt.Errorf("read the segments: %w", err)
			}
		}
	}
	r.sessions = len(sessions)
	r.stored = len(rows)
	for name, events := range rec.acked {
		switch n, there := rows[name]; {
		case !there:
			r.lost++
		case n != events:
			r.short++
		}
	}
	var faults []error
	if r.good == 0 {
		faults = append(faults, errors.New("no good beacon was acknowledged"))
	}
	if r.lost+r.twice+r.short > 0 {
		faults = append(faults, fmt.Errorf("of %d good beacons %d are lost, %d are there twice, %d are incomplete", r.good, r.lost, r.twice, r.short))
	}
	if r.stored != r.good {
		faults = append(faults, fmt.Errorf("%d beacons of the good tenant are stored, %d were acknowledged", r.stored, r.good))
	}
	if may := o.growth + int64(r.sessions)*perSession; r.warm == 0 || r.end == 0 {
		faults = append(faults, errors.New("memory was not seen: the run was too short"))
	} else if grown := r.end - r.warm; grown > may {
		faults = append(faults, fmt.Errorf("memory grew by %.0f MB, from %.0f MB in the second tenth to %.0f MB in the last: want at most %.0f MB, which is for %d sessions %d bytes each, and %.0f MB",
			float64(grown)/1e6, float64(r.warm)/1e6, float64(r.end)/1e6, float64(may)/1e6, r.sessions, perSession, float64(o.growth)/1e6))
	}
	return errors.Join(faults...)
}
