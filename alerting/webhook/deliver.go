package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Outcome is how the telling of a message ended.
type Outcome string

// The outcomes.
const (
	Delivered Outcome = "delivered" // the receiver answered 2xx
	Expired   Outcome = "expired"   // it was of no use any more
	Refused   Outcome = "refused"   // the receiver answered 410: it wants no more
	Overtaken Outcome = "overtaken" // something newer says another thing
	Rejected  Outcome = "rejected"  // the receiver will never take it
)

// Report is how the telling of a message went.
type Report struct {
	Outcome Outcome
	Tries   int
	Status  int // of the last try; 0: there was no answer
}

// Outbox is the durable list of what is to be told. Record is durable when it
// returns; a crash before it means that the message is told again.
type Outbox interface {
	// Undelivered returns what is not recorded yet, oldest first in each stream.
	Undelivered(ctx context.Context, tenant, target string) ([]Message, error)
	// Record keeps how the telling ended.
	Record(ctx context.Context, tenant, target string, m Message, r Report) error
	// Overtaken reports whether something newer makes a message one that must
	// not be told any more.
	Overtaken(tenant, target string, m Message) bool
	// Changed is closed when there may be something new; ask again for the next.
	Changed() <-chan struct{}
}

// Options say what a deliverer works on.
type Options struct {
	Targets []Target
	Outbox  Outbox
	Allow   []netip.Prefix // internal addresses that may be reached
	Logger  *slog.Logger
	Now     func() time.Time // default time.Now
	// Client replaces the HTTP client, and with it the check of addresses.
	Client Client
}

// The limits of delivery.
const (
	attemptTimeout = 15 * time.Second
	maxRetryAfter  = 5 * time.Minute
	maxAnswer      = 64 << 10 // read of a receiver's answer, for the connection's sake
	triesAtOnce    = 8        // of one target
)

// schedule is the time before each try; the last one repeats.
var schedule = []time.Duration{0, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 15 * time.Second, 30 * time.Second}

// jitter is by how much a wait may differ, so that a receiver that comes back
// does not meet all tries at once.
const jitter = 0.2

// Deliverer tells the messages of an outbox to its targets. Targets wait for
// one another in nothing, nor do streams of one target but for their tries, of which 8
// are made at once: what a receiver does not take for a day keeps nothing else from it.
type Deliverer struct{ o Options }

// New returns a deliverer for targets that pass [Target.Check].
func New(o Options) (*Deliverer, error) {
	for _, t := range o.Targets {
		if t.Teller != nil {
			continue // which was checked when it was made
		}
		if err := t.Check(); err != nil {
			return nil, fmt.Errorf("target %s of tenant %s: %w", t.Name, t.Tenant, err)
		}
		if len(t.Secrets) == 0 {
			return nil, fmt.Errorf("target %s of tenant %s: secrets: none: want 1 to 4", t.Name, t.Tenant)
		}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Client == nil {
		o.Client = NewClient(o.Allow)
	}
	return &Deliverer{o}, nil
}

// Run delivers until ctx ends, and then returns nil. Its error is the outbox's.
func (d *Deliverer) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, t := range d.o.Targets {
		wg.Go(func() {
			if err := d.target(ctx, t); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("target %s of tenant %s: %w", t.Name, t.Tenant, err))
			}
		})
	}
	<-ctx.Done()
	wg.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	return nil
}

// ended is a stream that has nothing more to tell, or failed.
type ended struct {
	stream string
	gone   bool
	err    error
}

// target starts a worker for each stream with messages, and looks again when
// the outbox has changed or a worker has ended.
func (d *Deliverer) target(ctx context.Context, t Target) error {
	busy := map[string]bool{}
	slots := make(chan struct{}, triesAtOnce)
	ends := make(chan ended)
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	waiting := metrics.GetOrCreateGauge(d.label("serin_webhook_undelivered", t), nil)
	for {
		changed := d.o.Outbox.Changed()
		messages, err := d.o.Outbox.Undelivered(ctx, t.Tenant, t.Name)
		if err != nil {
			return fmt.Errorf("read the outbox: %w", err)
		}
		waiting.Set(float64(len(messages)))
		streams := map[string][]Message{}
		var order []string
		for _, m := range messages {
			if streams[m.Stream] == nil {
				order = append(order, m.Stream)
			}
			streams[m.Stream] = append(streams[m.Stream], m)
		}
		for _, name := range order {
			if busy[name] {
				continue
			}
			busy[name] = true
			wg.Go(func() {
				e := d.stream(ctx, t, slots, streams[name])
				e.stream = name
				select {
				case ends <- e:
				case <-ctx.Done():
				}
			})
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case e := <-ends:
			delete(busy, e.stream)
			if e.err != nil {
				return e.err
			}
			if e.gone {
				d.o.Logger.Error("the receiver wants no more messages: nothing is sent to it until the next start", "tenant", t.Tenant, "target", t.Name)
				<-ctx.Done()
				return nil
			}
		}
	}
}

func (d *Deliverer) label(name string, t Target) string {
	return fmt.Sprintf("%s{tenant=%q,target=%q}", name, t.Tenant, t.Name)
}

// stream tells messages one after the other.
func (d *Deliverer) stream(ctx context.Context, t Target, slots chan struct{}, messages []Message) ended {
	for _, m := range messages {
		r, ok, err := d.message(ctx, t, slots, m)
		if err != nil {
			return ended{err: err}
		}
		if !ok {
			return ended{}
		}
		if err := d.o.Outbox.Record(ctx, t.Tenant, t.Name, m, r); err != nil {
			return ended{err: fmt.Errorf("record message %s: %w", m.ID, err)}
		}
		metrics.GetOrCreateCounter(fmt.Sprintf("serin_webhook_deliveries_total{tenant=%q,target=%q,outcome=%q}", t.Tenant, t.Name, r.Outcome)).Inc()
		if r.Outcome == Refused {
			return ended{gone: true}
		}
	}
	return ended{}
}

// message tries until it is clear how the telling ends; ok is false when ctx
// ended before. The error is that of making the message.
func (d *Deliverer) message(ctx context.Context, t Target, slots chan struct{}, m Message) (_ Report, ok bool, _ error) {
	last := 0
	for try := 0; ; try++ {
		wait := schedule[min(try, len(schedule)-1)]
		wait = time.Duration(float64(wait) * (1 - jitter + 2*jitter*rand.Float64()))
		if overtaken, err := d.wait(ctx, t, m, wait); err != nil {
			return Report{}, false, nil
		} else if overtaken {
			return Report{Overtaken, try, last}, true, nil
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return Report{}, false, nil
		}
		// To wait for a slot can take as long as a try of others.
		outcome, made := Outcome(""), m
		var err error
		switch {
		case d.o.Outbox.Overtaken(t.Tenant, t.Name, m):
			outcome = Overtaken
		case d.o.Now().After(m.ExpiresAt):
			d.o.Logger.Warn("a message was not told in time", "tenant", t.Tenant, "target", t.Name, "message", m.ID, "tries", try)
			outcome = Expired
		case m.Body == nil && m.Make != nil:
			made.Body, err = m.Make()
		}
		if outcome != "" || err != nil {
			<-slots
			if err != nil {
				return Report{}, false, fmt.Errorf("make message %s: %w", m.ID, err)
			}
			return Report{outcome, try, last}, true, nil
		}
		status, after, err := d.attempt(ctx, t, made)
		<-slots
		if ctx.Err() != nil {
			return Report{}, false, nil
		}
		last = status
		result := "failed"
		if err == nil {
			result = strconv.Itoa(status/100) + "xx"
		}
		metrics.GetOrCreateCounter(fmt.Sprintf("serin_webhook_attempts_total{tenant=%q,target=%q,result=%q}", t.Tenant, t.Name, result)).Inc()
		switch {
		case err == nil && status/100 == 2:
			return Report{Delivered, try + 1, status}, true, nil
		case err == nil && status == http.StatusGone, errors.Is(err, ErrGone):
			return Report{Refused, try + 1, status}, true, nil
		case errors.Is(err, ErrRejected):
			d.o.Logger.Error("a message was rejected, and is not tried again", "tenant", t.Tenant, "target", t.Name, "message", m.ID, "status", status, "error", err)
			return Report{Rejected, try + 1, status}, true, nil
		}
		d.o.Logger.Warn("a message was not told; it is tried again", "tenant", t.Tenant, "target", t.Name, "message", m.ID, "try", try+1, "status", status, "error", err)
		if overtaken, err := d.wait(ctx, t, m, after); err != nil {
			return Report{}, false, nil
		} else if overtaken {
			return Report{Overtaken, try + 1, last}, true, nil
		}
	}
}

// wait waits, and no longer than until the message is overtaken: a rollback must
// not wait behind a promote that its receiver does not take, nor that promote be
// told after it. The error is the context's.
func (d *Deliverer) wait(ctx context.Context, t Target, m Message, length time.Duration) (overtaken bool, err error) {
	timer := time.NewTimer(length)
	defer timer.Stop()
	for {
		changed := d.o.Outbox.Changed()
		if d.o.Outbox.Overtaken(t.Tenant, t.Name, m) {
			return true, nil
		}
		if length <= 0 {
			return false, ctx.Err()
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-timer.C:
			length = 0 // and a last look
		case <-changed:
		}
	}
}

// Try tells a message once, as its target wants it told.
func (t Target) Try(ctx context.Context, c Client, now time.Time, m Message) (Answer, error) {
	if t.Teller != nil {
		return t.Teller.Tell(ctx, m)
	}
	header, err := t.sign(m, now)
	if err != nil {
		return Answer{}, err
	}
	return Post(ctx, c, t.URL, header, m.Body)
}

// attempt makes one try, and returns the status and the wait that the receiver
// asked for.
func (d *Deliverer) attempt(ctx context.Context, t Target, m Message) (status int, after time.Duration, err error) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	a, err := t.Try(ctx, d.o.Client, d.o.Now(), m)
	if a.Status != 0 {
		metrics.GetOrCreateHistogram(d.label("serin_webhook_attempt_seconds", t)).UpdateDuration(start)
	}
	return a.Status, a.After, err
}

// RetryAfter reads the header of that name, as seconds or a date, within bounds; 0
// where there is none.
func RetryAfter(s string, now time.Time) time.Duration {
	var d time.Duration
	if n, err := strconv.Atoi(s); err == nil {
		d = time.Duration(min(max(n, 0), int(maxRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(s); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}
