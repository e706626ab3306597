package load

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"serin.dev/serin/internal/bench/corpus"
	"serin.dev/serin/internal/bench/process"
)

// sender is one connection.
type sender interface {
	connect() error
	// send sends the next beacons, which were due at that instant.
	send(due time.Time, t *tally)
	// wait returns when everything is answered.
	wait()
	close()
}

// settleLimit bounds how long a server may take to do what it has put off.
const settleLimit = time.Minute

// Run sends the load and returns what came of it. It ends by itself: after
// the warm-up and the duration, and at most a minute for each of connecting,
// answers and settling; or when ctx ends, with its error.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	host, err := o.host()
	if err != nil {
		return nil, err
	}
	bodies, err := corpus.Encode(o.Format, corpus.Make(corpus.Options{Seed: o.Seed, Sessions: o.Sessions, Events: o.Events, Now: time.Now().UnixMilli()}))
	if err != nil {
		return nil, err
	}
	// Answers that do not come are found out before anything is opened.
	probe, err := net.DialTimeout("tcp", host, 10*time.Second)
	if err != nil {
		return nil, fmt.Errorf("reach the server: %w", err)
	}
	_ = probe.Close() // nothing was sent
	r := &run{o: o}
	r.perBeacon = o.Events
	if o.Format == corpus.Stream {
		r.perBeacon = o.Batch
	}
	for i := range o.Connections {
		key := o.Keys[i%len(o.Keys)]
		// The stream of random numbers is the run's own, so that two runs of one
		// seed do not repeat each other's sessions.
		w := newWalk(bodies, o.Seed^uint64(time.Now().UnixNano()), uint64(i))
		var s sender
		if o.Format == corpus.Stream {
			s = newStreamer(&o, host, key, w)
		} else {
			s = newPoster(&o, host, key, w, i)
		}
		r.senders = append(r.senders, s)
	}
	defer r.close()
	for i, s := range r.senders {
		if err := s.connect(); err != nil {
			return nil, fmt.Errorf("open connection %d of %d: %w", i+1, o.Connections, err)
		}
	}
	idle := &idlers{}
	if o.Idle > 0 {
		if idle, err = openIdle(ctx, o.Idle, host, o.Keys); err != nil {
			return nil, err
		}
		defer idle.close()
	}
	var warning string
	if o.Warmup > 0 {
		r.round(ctx, o.Warmup)
		warning = r.settle(ctx)
	}
	collectAgain := holdCollection()
	defer collectAgain()
	before, err := r.usage()
	if err != nil {
		return nil, err
	}
	stopLooking := r.look(&before)
	own, busy := ownCPU(), r.busy()
	t, took, unsent := r.round(ctx, o.Duration)
	own, busy = ownCPU()-own, r.busy()-busy
	collectAgain()
	end, err := r.usage()
	if err != nil {
		return nil, err
	}
	if w := r.settle(ctx); warning == "" {
		warning = w
	}
	peak := stopLooking()
	after, err := r.usage()
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out := r.report(t, took, unsent)
	out.LoadCPUSeconds = own.Seconds()
	out.Idle, out.Warning = int(idle.open.Load()), warning
	if lost := o.Idle - out.Idle; lost > 0 {
		out.Warning = fmt.Sprintf("%d of %d idle connections were closed by the server", lost, o.Idle)
	}
	if o.PID > 0 {
		out.ServerCPUSeconds = (after.CPU - before.CPU).Seconds()
		if out.Accepted > 0 && out.ServerCPUSeconds > 0 {
			out.EventsPerCPUSecond = float64(out.Accepted) / out.ServerCPUSeconds
			out.CPUSecondsPerM = out.ServerCPUSeconds / float64(out.Accepted) * 1e6
		}
		out.OthersCores = max(busy-own-(end.CPU-before.CPU), 0).Seconds() / out.Seconds
		out.PeakRSSBytes, out.Processes = peak.RSS, peak.Processes
	}
	return out, nil
}

// collectAbove is how much memory the generator may take before it collects
// garbage while it measures.
const collectAbove = 1 << 30

// holdCollection collects garbage now, and no more until what it returns is
// called. To look through the stacks of 20,000 connections takes a core up to a
// tenth of a second, in which nothing is sent: the server would be blamed for it.
func holdCollection() (again func()) {
	runtime.GC()
	limit := debug.SetMemoryLimit(-1)
	debug.SetMemoryLimit(min(limit, collectAbove))
	percent := debug.SetGCPercent(-1)
	return sync.OnceFunc(func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	})
}

type run struct {
	o         Options
	senders   []sender
	perBeacon int // events that are sent at once
}

func (r *run) close() {
	for _, s := range r.senders {
		s.close()
	}
}

// round sends for as long as length, and waits for the answers. unsent is how
// many beacons were due by then and not sent.
func (r *run) round(ctx context.Context, length time.Duration) (all *tally, took time.Duration, unsent int64) {
	tallies := make([]*tally, len(r.senders))
	var due atomic.Int64
	began := time.Now()
	end := began.Add(length)
	var wg sync.WaitGroup
	for i, s := range r.senders {
		t := newTally()
		tallies[i] = t
		wg.Go(func() {
			defer s.wait()
			for ctx.Err() == nil {
				at := time.Now()
				if r.o.Rate > 0 {
					at = began.Add(time.Duration(float64(due.Add(1)-1) * float64(r.perBeacon) / r.o.Rate * float64(time.Second)))
					if !at.Before(end) {
						return
					}
					if !sleep(ctx, at) {
						return
					}
					now := time.Now()
					if !now.Before(end) {
						atomic.AddInt64(&unsent, 1)
						continue // counts what else is due
					}
					t.late.add(now.Sub(at))
				} else if !at.Before(end) {
					return
				}
				s.send(at, t)
			}
		})
	}
	wg.Wait()
	took = time.Since(began)
	if ctx.Err() != nil {
		unsent = 0 // nobody asked for them any more
	}
	all = newTally()
	for _, t := range tallies {
		all.merge(t)
	}
	return all, took, unsent
}

// sleep waits until an instant; false where ctx ended before.
func sleep(ctx context.Context, until time.Time) bool {
	d := time.Until(until)
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (r *run) usage() (process.Usage, error) {
	if r.o.PID == 0 {
		return process.Usage{}, nil
	}
	return process.Read(r.o.PID)
}

// busy is how long the machine has worked, where it is the server's too.
func (r *run) busy() time.Duration {
	if r.o.PID == 0 {
		return 0
	}
	busy, err := process.Busy()
	if err != nil {
		return 0 // told as no others
	}
	return busy
}

// ownCPU is what this process has used: a load that takes a whole core has
// measured itself.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0 // told as unknown
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// settle waits until the server has done what it has put off. What keeps it
// busy is no error of the load, and is told.
func (r *run) settle(ctx context.Context) string {
	if r.o.PID == 0 || r.o.Settle == 0 {
		return ""
	}
	if err := process.Quiet(ctx, r.o.PID, r.o.Settle, settleLimit); err != nil {
		return "the server did not settle, so its CPU time is not complete: " + err.Error()
	}
	return ""
}

// look watches the server's memory until the returned function is called,
// which returns the highest that was seen.
func (r *run) look(first *process.Usage) func() process.Usage {
	peak := *first
	if r.o.PID == 0 {
		return func() process.Usage { return peak }
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(250 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-stop:
				return
			case <-t.C:
				if u, err := process.Read(r.o.PID); err == nil && u.RSS > peak.RSS {
					peak = u
				}
			}
		}
	}()
	return func() process.Usage {
		close(stop)
		<-done
		return peak
	}
}

func (r *run) report(t *tally, took time.Duration, unsent int64) *Report {
	out := &Report{Format: string(r.o.Format), Seconds: took.Seconds(), Connections: len(r.senders), Beacons: t.beacons, Bytes: t.bytes, Hostile: t.hostile,
		Failed: t.failed, Unsent: unsent, Statuses: map[string]int{}, Arms: map[string]Arm{"baseline": t.baseline, "canary": t.canary},
		P50ms: ms(t.latency.quantile(0.5)), P99ms: ms(t.latency.quantile(0.99)), P999ms: ms(t.latency.quantile(0.999)), MaxMS: ms(t.latency.max),
		LateP99ms: ms(t.late.quantile(0.99))}
	for _, a := range out.Arms {
		out.Events += a.Events
		out.Accepted += a.Accepted
		out.Shed += a.Shed
	}
	out.AcceptedPerSecond = float64(out.Accepted) / took.Seconds()
	for s, n := range t.statuses {
		out.Statuses[strconv.Itoa(s)] = n
	}
	if t.hostile > 0 {
		out.HostileStatuses = map[string]int{}
		for s, n := range t.hostileStatuses {
			name := strconv.Itoa(s)
			if s == 0 {
				name = "none"
			}
			out.HostileStatuses[name] = n
		}
	}
	return out
}
