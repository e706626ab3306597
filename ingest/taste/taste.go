// Package taste isolates the decoding of client input: a body is decoded in a
// child process, where it can hurt only itself. A Go process survives neither
// the overflow of a stack nor running out of memory in one goroutine, so that
// recovering from a panic is no isolation.
//
// The parent ([Pool]) holds the body and its [Fingerprint] while a child
// ([Serve]) works on it, and a child works on one body at a time: a dead child
// names its killer. What kills twice is quarantined: its body is kept for an
// operator in a bounded ring, and its fingerprint is refused early. Each tenant
// has only a few of the tasters, so that one tenant's poison leaves others
// theirs.
package taste

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"os/exec"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// The errors of [Pool.Taste].
var (
	ErrPoison      = errors.New("the body killed its tasters")
	ErrQuarantined = errors.New("bodies of this form are quarantined")
	ErrTripped     = errors.New("too many quarantined bodies with this key")
	ErrBusy        = errors.New("no taster is free")
)

// Limits bound a child. It takes them from its parent by way of the command's
// arguments, which only cmd reads.
type Limits struct {
	Memory uint64        // bytes of data that the child may map; past it, it dies
	Stack  int           // bytes of one goroutine's stack
	Time   time.Duration // for one body, after which the child ends itself; its parent kills it long before, if it lives
}

// DefaultLimits are far above what the largest allowed body needs.
var DefaultLimits = Limits{Memory: 512 << 20, Stack: 16 << 20, Time: 30 * time.Second}

// exitOrphan is the exit status of a child that nobody killed in time.
const exitOrphan = 3

// maxAnswer bounds what a parent reads of one answer.
const maxAnswer = 64 << 20

// Serve is the child: it reads requests from in and writes what decode makes
// of them to out, until in ends. It sets the limits on its own process.
func Serve[Q, A any](l Limits, in io.Reader, out io.Writer, decode func(*Q) A) error {
	debug.SetMaxStack(l.Stack)
	debug.SetMemoryLimit(int64(l.Memory / 2)) // collect more eagerly before the hard limit
	if err := limitMemory(l.Memory); err != nil {
		return fmt.Errorf("limit the taster's memory: %w", err)
	}
	dec, enc := gob.NewDecoder(in), gob.NewEncoder(out)
	for {
		var q Q
		if err := dec.Decode(&q); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("read a request: %w", err)
		}
		// A parent that is gone kills nobody: a child in an endless loop must not
		// outlive it for good.
		orphan := time.AfterFunc(l.Time, func() { syscall.Exit(exitOrphan) })
		a := decode(&q)
		orphan.Stop()
		if err := enc.Encode(&a); err != nil {
			return fmt.Errorf("write an answer: %w", err)
		}
	}
}

// Options say how a pool works.
type Options struct {
	Command    func() *exec.Cmd // a child that runs [Serve] on its standard input and output
	Tasters    int              // children; default 4
	PerTenant  int              // of which a tenant may use; default 2
	Timeout    time.Duration    // for one body, after which its child is killed; default 2 s
	Quarantine time.Duration    // how long a fingerprint is refused; default 10 min
	Logger     *slog.Logger
	Now        func() time.Time // default time.Now
}

// Sample says whose body is tasted.
type Sample struct {
	Tenant   string
	Key      string
	Protocol string
	Body     []byte
}

// Pool is a set of children. Q is what they are asked, A what they answer;
// both must be what encoding/gob takes. It is safe for concurrent use.
type Pool[Q, A any] struct {
	o       Options
	tasters []chan *child // of capacity 1: whoever holds the child has it
	jail    *jail
	tasted  *metrics.Histogram
}

// child is one process, or none yet where cmd is nil.
type child struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	enc     *gob.Encoder
	dec     *gob.Decoder
	limit   *io.LimitedReader
	started time.Time
	deaths  int // in a row, each soon after its start
}

// New starts no child yet: each starts with its first body.
func New[Q, A any](o Options) *Pool[Q, A] {
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
	p := &Pool[Q, A]{o: o, jail: newJail(o.Quarantine, o.Now), tasted: metrics.GetOrCreateHistogram("serin_taste_seconds")}
	for range o.Tasters {
		c := make(chan *child, 1)
		c <- &child{}
		p.tasters = append(p.tasters, c)
	}
	return p
}

// Close ends the children. A body that is tasted meanwhile is answered first.
func (p *Pool[Q, A]) Close() {
	for _, t := range p.tasters {
		c := <-t
		c.end()
		t <- c
	}
}

// end lets a child go: it ends when its input does.
func (c *child) end() {
	if c.cmd == nil {
		return
	}
	_ = c.in.Close()
	_ = c.cmd.Process.Kill() // it may be in the middle of something
	_ = c.cmd.Wait()         // how it ended is of no interest
	*c = child{deaths: c.deaths, started: c.started}
}

// Of returns the numbers of the tasters that a tenant may use, the preferred
// one first: those with the highest hash of the pair (rendezvous hashing), so
// that two tenants share few of them.
func (p *Pool[Q, A]) Of(tenant string) []int {
	type ranked struct {
		n    int
		rank uint64
	}
	all := make([]ranked, len(p.tasters))
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
// child dies of it, it is tried once more in a fresh one, to be sure that it was
// this body; then it is quarantined, and the error is [ErrPoison].
func (p *Pool[Q, A]) Taste(ctx context.Context, s Sample, q *Q) (a A, err error) {
	start := time.Now()
	defer func() {
		p.tasted.UpdateDuration(start)
		result := "ok"
		switch {
		case errors.Is(err, ErrPoison):
			result = "poison"
		case errors.Is(err, ErrQuarantined):
			result = "quarantined"
		case errors.Is(err, ErrTripped):
			result = "tripped"
		case err != nil:
			result = "busy"
		}
		metrics.GetOrCreateCounter(`serin_taste_total{result="` + result + `"}`).Inc()
	}()
	fp := Fingerprint(s.Protocol, s.Key, s.Body)
	if err := p.jail.check(fp, s.Key); err != nil {
		return a, err
	}
	var cause string
	for range 2 {
		t, c, err := p.acquire(ctx, s.Tenant)
		if err != nil {
			return a, err
		}
		var died bool
		a, cause, died, err = p.one(c, q)
		t <- c
		if err != nil {
			return a, err
		}
		if !died {
			return a, nil
		}
		metrics.GetOrCreateCounter(`serin_taste_deaths_total{cause="` + cause + `"}`).Inc()
		p.o.Logger.Warn("a taster died of a body", "tenant", s.Tenant, "protocol", s.Protocol, "fingerprint", fmt.Sprintf("%016x", fp), "cause", cause)
	}
	p.jail.put(fp, s, cause)
	return a, ErrPoison
}

// acquire waits for one of the tenant's tasters.
func (p *Pool[Q, A]) acquire(ctx context.Context, tenant string) (chan *child, *child, error) {
	mine := p.Of(tenant)
	for _, n := range mine {
		select {
		case c := <-p.tasters[n]:
			return p.tasters[n], c, nil
		default:
		}
	}
	ctx, cancel := context.WithTimeout(ctx, p.o.Timeout)
	defer cancel()
	// Whichever is free first; the others' waits end with won.
	type got struct {
		t chan *child
		c *child
	}
	first := make(chan got)
	var wg sync.WaitGroup
	defer wg.Wait()
	won, stop := context.WithCancel(ctx)
	defer stop()
	for _, n := range mine {
		wg.Go(func() {
			select {
			case c := <-p.tasters[n]:
				select {
				case first <- got{p.tasters[n], c}:
				case <-won.Done():
					p.tasters[n] <- c
				}
			case <-won.Done():
			}
		})
	}
	select {
	case g := <-first:
		return g.t, g.c, nil
	case <-ctx.Done():
		return nil, nil, ErrBusy
	}
}

// one has a child answer q; died says that the child is gone, and cause of
// what. An error is the pool's own.
func (p *Pool[Q, A]) one(c *child, q *Q) (a A, cause string, died bool, err error) {
	if c.cmd == nil {
		if err := p.start(c); err != nil {
			return a, "", false, err
		}
	}
	var timedOut atomic.Bool
	process := c.cmd.Process
	late := time.AfterFunc(p.o.Timeout, func() {
		timedOut.Store(true)
		_ = process.Kill() // it may have ended just now
	})
	defer late.Stop()
	c.limit.N = maxAnswer
	if err = c.enc.Encode(q); err == nil {
		err = c.dec.Decode(&a)
	}
	if err == nil && late.Stop() {
		c.deaths = 0
		return a, "", false, nil
	}
	var none A
	return none, p.reap(c, timedOut.Load()), true, nil
}

// reap buries a dead child and says what it died of.
func (p *Pool[Q, A]) reap(c *child, timedOut bool) string {
	deaths := c.deaths + 1
	if time.Since(c.started) > time.Minute {
		deaths = 1
	}
	_ = c.in.Close()
	_ = c.cmd.Process.Kill() // an answer that is garbage leaves it alive
	_ = c.cmd.Wait()         // its exit status is read below
	code := c.cmd.ProcessState.ExitCode()
	*c = child{deaths: deaths, started: c.started}
	switch {
	case timedOut:
		return "timeout"
	case code == 2:
		return "fatal" // the runtime's: a stack, memory, a panic
	case code >= 0:
		return "exit"
	}
	return "signal"
}

// start starts a child, later the more often it has died.
func (p *Pool[Q, A]) start(c *child) error {
	if c.deaths > 2 {
		time.Sleep(min(50*time.Millisecond<<min(c.deaths-3, 6), p.o.Timeout)) // a taster that dies again and again must not eat the machine
	}
	cmd := p.o.Command()
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start a taster: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start a taster: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start a taster: %w", err)
	}
	limit := &io.LimitedReader{R: out, N: maxAnswer}
	*c = child{cmd: cmd, in: in, enc: gob.NewEncoder(in), dec: gob.NewDecoder(limit), limit: limit, started: time.Now(), deaths: c.deaths}
	return nil
}
