// Package taste isolates the decoding of client input: a body is decoded in a
// child process, where it can hurt only itself. A Go process survives neither
// the overflow of a stack nor running out of memory in one goroutine, so that
// recovering from a panic is no isolation.
//
// The parent ([Pool]) holds the bodies while a child ([Serve]) works on them,
// one after the other. Under load several cross the pipe at once, since the
// crossing costs more than most decoding. Where a child dies of several, each
// that it had not answered is tasted again alone: a child that dies then names
// its killer. What kills twice is quarantined: its body is kept for an operator
// in a bounded ring, and its [Fingerprint] is refused early to the network that
// sent it, and to all where several have sent such. Each tenant has only a few
// of the tasters, so that one tenant's poison leaves others theirs.
package taste

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os/exec"
	"slices"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// The errors of [Pool.Taste].
var (
	ErrPoison      = errors.New("the body killed its tasters")
	ErrQuarantined = errors.New("bodies of this form are quarantined")
	ErrBusy        = errors.New("no taster is free")
)

// Options say how a pool works.
type Options struct {
	Command    func() *exec.Cmd // a child that runs [Serve] on its standard input and output
	Tasters    int              // children; default 4
	PerTenant  int              // of which a tenant may use; default 2
	Timeout    time.Duration    // for what crosses at once, after which its child is killed; default 2 s
	Quarantine time.Duration    // how long a fingerprint is refused; default 10 min
	Logger     *slog.Logger
	Now        func() time.Time // default time.Now
}

// Sample says whose body is tasted.
type Sample struct {
	Tenant   string
	Key      string
	Network  string // that sends it, as events have it; empty where it is not known
	Protocol string
	Body     []byte
}

// queued is how many bodies may wait for one taster.
const queued = 128

// Pool is a set of children. It is safe for concurrent use. Close it.
type Pool struct {
	o      Options
	queues []chan *job
	jail   *jail
	tasted *metrics.Histogram
	of     sync.Map // of []int by tenant, which are as many as are configured
	done   chan struct{}
	wg     sync.WaitGroup
}

// job is one body on its way.
type job struct {
	ctx    context.Context
	q      []byte
	answer chan answered // of capacity 1
}

// answered is how a job ended: with an answer, or with the cause of its
// taster's death, or with an error of the pool's own.
type answered struct {
	a     []byte
	cause string
	err   error
}

// New returns a pool. No child is started yet: each starts with its first body.
func New(o Options) *Pool {
	if o.Tasters == 0 {
		o.Tasters = 4
	}
	if o.PerTenant == 0 {
		o.PerTenant = 2
	}
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Second
	}
	if o.Quarantine == 0 {
		o.Quarantine = 10 * time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Pool{o: o, jail: newJail(o.Quarantine, o.Now), tasted: metrics.GetOrCreateHistogram("serin_taste_seconds"), done: make(chan struct{})}
	for range o.Tasters {
		queue := make(chan *job, queued)
		p.queues = append(p.queues, queue)
		p.wg.Go(func() { (&taster{o: &p.o, queue: queue, done: p.done}).run() })
	}
	return p
}

// Close ends the children. Bodies that are tasted meanwhile are answered; what
// still waits gets [ErrBusy].
func (p *Pool) Close() {
	close(p.done)
	p.wg.Wait()
}

// Of returns the numbers of the tasters that a tenant may use, the preferred
// one first: those with the highest hash of the pair (rendezvous hashing), so
// that two tenants share few of them.
func (p *Pool) Of(tenant string) []int {
	type ranked struct {
		n    int
		rank uint64
	}
	all := make([]ranked, len(p.queues))
	for i := range all {
		h := fnv.New64a()
		fmt.Fprintf(h, "%s/%d", tenant, i)
		x := h.Sum64()
		x ^= x >> 33
		x *= 0xff51afd7ed558ccd
		x ^= x >> 33
		all[i] = ranked{i, x}
	}
	slices.SortFunc(all, func(a, b ranked) int {
		if a.rank > b.rank {
			return -1
		}
		return 1
	})
	out := make([]int, 0, p.o.PerTenant)
	for _, r := range all[:min(p.o.PerTenant, len(all))] {
		out = append(out, r.n)
	}
	return out
}

// Taste has a child answer q, which was made of the sample's body. Where the
// child dies of it, it is tried once more in a fresh one, alone, to be sure that
// it was this body; then it is quarantined, and the error is [ErrPoison]. The
// caller must not write to q until its answer is there, nor afterwards where ctx
// ended before.
func (p *Pool) Taste(ctx context.Context, s Sample, q []byte) (a []byte, err error) {
	start := time.Now()
	result := "ok"
	defer func() {
		p.tasted.UpdateDuration(start)
		results[result].Inc()
	}()
	if err := p.jail.check(&s); err != nil {
		result = "quarantined"
		return nil, err
	}
	j := &job{ctx: ctx, q: q, answer: make(chan answered, 1)}
	if !p.enqueue(ctx, s.Tenant, j) {
		result = "busy"
		return nil, ErrBusy
	}
	var got answered
	select {
	case got = <-j.answer:
	case <-ctx.Done():
		result = "busy"
		return nil, ErrBusy
	}
	switch {
	case got.err != nil:
		result = "busy"
		return nil, got.err
	case got.cause != "":
		result = "poison"
		p.o.Logger.Warn("a body killed two tasters and is quarantined", "tenant", s.Tenant, "protocol", s.Protocol, "cause", got.cause)
		p.jail.put(&s, got.cause)
		return nil, ErrPoison
	}
	return got.a, nil
}

// Refused returns [ErrQuarantined] where [Pool.Taste] would refuse a sample
// untasted. It is for bodies that need no taster.
func (p *Pool) Refused(s Sample) error {
	err := p.jail.check(&s)
	if err != nil {
		results["quarantined"].Inc()
	}
	return err
}

// mine returns Of, remembered.
func (p *Pool) mine(tenant string) []int {
	if known, ok := p.of.Load(tenant); ok {
		return known.([]int)
	}
	of := p.Of(tenant)
	p.of.Store(tenant, of)
	return of
}

var results = func() map[string]*metrics.Counter {
	all := map[string]*metrics.Counter{}
	for _, r := range []string{"ok", "poison", "quarantined", "busy"} {
		all[r] = metrics.GetOrCreateCounter(`serin_taste_total{result="` + r + `"}`)
	}
	return all
}()

// enqueue gives a job to the tenant's taster for which fewer wait, or waits
// until one of them has room.
func (p *Pool) enqueue(ctx context.Context, tenant string, j *job) bool {
	mine := p.mine(tenant)
	best := p.queues[mine[0]]
	for _, n := range mine[1:] {
		if len(p.queues[n]) < len(best) {
			best = p.queues[n]
		}
	}
	select {
	case best <- j:
		return true
	default:
	}
	late := time.NewTimer(p.o.Timeout)
	defer late.Stop()
	other := best
	if len(mine) > 1 {
		other = p.queues[mine[1]]
		if other == best {
			other = p.queues[mine[0]]
		}
	}
	select {
	case best <- j:
		return true
	case other <- j:
		return true
	case <-late.C:
	case <-ctx.Done():
	case <-p.done:
	}
	return false
}
