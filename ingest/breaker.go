package ingest

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"serin.dev/serin/internal/event"
)

// The bounds of the breaker.
const (
	maxBad      = 100              // bodies that cannot be decoded, within badTime, open the breaker
	harm        = 5                // as how many of them one counts that killed tasters or has the form of one that did
	badTime     = 10 * time.Second //
	badShare    = 2                // where they are more than so many times as many as good ones
	breakerTime = 30 * time.Second // how long it stays open
	maxSenders  = 4096             // that are counted at once
	maxParked   = 1024             // refused requests that are kept waiting at once
	parkTime    = time.Second      // how long
)

// sender is who sends: a key as one network uses it. Keys are public, so that
// a key alone would let anybody silence a tenant.
type sender struct{ key, prefix string }

// breaker refuses, before anything of a body is read, senders of bursts of
// bodies that cannot be decoded, or that are quarantined.
type breaker struct {
	any  atomic.Int64 // senders that are counted: mostly none
	now  func() time.Time
	mu   sync.Mutex
	seen map[sender]*record

	parked atomic.Int64
}

// record is what a sender has sent lately.
type record struct {
	since     time.Time
	bad, good int
	until     time.Time // while the breaker is open
}

// open reports whether a sender is refused.
func (b *breaker) open(s sender) bool {
	if b.any.Load() == 0 {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.seen[s]
	return r != nil && b.now().Before(r.until)
}

// neither is the weight of a body that says nothing of its sender: it was refused
// for nothing of its own, as by a journal that is short of room.
const neither = -1

// weight returns as how many bad bodies one counts that was refused for f; 0 where
// it was not, which makes it a good one.
func (f *refusal) weight() int {
	switch {
	case f == nil:
		return 0
	case !f.malformed():
		return neither
	case f.reason == event.ReasonPoison || f.reason == event.ReasonJail:
		return harm
	}
	return 1
}

// note counts a body as so many bad ones, as a good one where that is 0, and not at
// all where it is neither.
func (b *breaker) note(s sender, weight int) {
	bad := weight > 0
	if weight == neither || !bad && b.any.Load() == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	r := b.seen[s]
	switch {
	case r == nil && !bad:
		return
	case r == nil:
		if len(b.seen) >= maxSenders {
			b.seen = nil // a flood of senders: begin again rather than grow
		}
		if b.seen == nil {
			b.seen = map[sender]*record{}
		}
		r = &record{since: now}
		b.seen[s] = r
		b.any.Store(int64(len(b.seen)))
	case now.Sub(r.since) > badTime:
		if now.After(r.until) && r.bad == 0 && !bad {
			delete(b.seen, s)
			b.any.Store(int64(len(b.seen)))
			return
		}
		r.since, r.bad, r.good = now, 0, 0
	}
	if !bad {
		r.good++
		return
	}
	if r.bad += weight; r.bad >= maxBad && r.bad > badShare*r.good && now.After(r.until) {
		r.until = now.Add(breakerTime)
		metrics.GetOrCreateCounter("serin_ingest_breakers_total").Inc()
	}
}

// park holds back the answer to a refused request for a moment, so that who
// sends as fast as it is answered is answered slowly. At most so many wait.
func (b *breaker) park() {
	if b.parked.Add(1) <= maxParked {
		time.Sleep(parkTime)
	}
	b.parked.Add(-1)
}
