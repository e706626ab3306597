package ingest

import (
	"context"
	"errors"
	"sync"
	"time"

	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/batch"
	"serin.dev/serin/internal/tenant"
)

// ErrBusy says that the journal does not take groups as fast as beacons come.
var ErrBusy = errors.New("journal busy")

// Appender is the journal, as ingest needs it: Append returns when the message
// is stored and synced, and does not keep data.
type Appender interface {
	Append(ctx context.Context, data []byte) (position uint64, err error)
}

// The group limits. JetStream syncs once for each message, so a group is what
// one sync is shared by: a full one is as fast as a log of our own with group
// commit, and the linger bounds what a lone beacon waits.
const (
	groupBytes  = 256 << 10
	groupLinger = 2 * time.Millisecond
	// groupsInFlight bounds the groups that wait for the journal at once; past
	// it the open group grows, and past groupMax beacons are refused.
	groupsInFlight = 4
	groupMax       = 4 << 20
)

// batcher joins beacons into groups, and tells each beacon when its group is
// in the journal.
type batcher struct {
	log     Appender
	metrics *metricSet
	tokens  chan struct{} // one for each group in flight
	wake    chan struct{}

	mu     sync.Mutex
	open   *pendingGroup
	fail   func(error) // called once where the journal refuses a write
	groups sync.Pool   // of *batch.Group, empty: the memory of their dictionaries and messages is used again
}

// pendingGroup is a group with those that wait for it.
type pendingGroup struct {
	group *batch.Group  // nil once it is sealed
	done  chan struct{} // closed when err is set
	err   error
}

func newBatcher(log Appender, m *metricSet, fail func(error)) *batcher {
	b := &batcher{log: log, metrics: m, tokens: make(chan struct{}, groupsInFlight), wake: make(chan struct{}, 1), fail: fail}
	b.groups.New = func() any { return new(batch.Group) }
	b.open = b.fresh()
	return b
}

func (b *batcher) fresh() *pendingGroup {
	return &pendingGroup{group: b.groups.Get().(*batch.Group), done: make(chan struct{})}
}

// put puts beacons into the open group, which is stored and synced when its
// done is closed without an err.
func (b *batcher) put(id tenant.ID, beacons ...*event.Beacon) (*pendingGroup, error) {
	b.mu.Lock()
	g := b.open
	if g.group.Size() >= groupMax {
		b.mu.Unlock()
		return nil, ErrBusy
	}
	first := g.group.Beacons() == 0
	for _, bc := range beacons {
		g.group.Add(id, bc)
	}
	full := g.group.Size() >= groupBytes
	b.mu.Unlock()
	if first || full {
		select {
		case b.wake <- struct{}{}:
		default:
		}
	}
	return g, nil
}

// run closes groups until ctx ends, and then the last one.
func (b *batcher) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		ending := false
		select {
		case <-b.wake:
		case <-ctx.Done():
			ending = true
		}
		if !ending && !b.full() {
			timer.Reset(groupLinger)
		linger:
			for {
				select {
				case <-timer.C:
					break linger
				case <-b.wake:
					if b.full() {
						break linger
					}
				case <-ctx.Done():
					break linger
				}
			}
		}
		// The token comes before the group is taken: while the journal is busy
		// the open group goes on growing, which is what makes it catch up.
		b.tokens <- struct{}{}
		g := b.take()
		if g == nil {
			<-b.tokens
			if ending {
				return
			}
			continue
		}
		wg.Go(func() {
			defer func() { <-b.tokens }()
			b.store(context.WithoutCancel(ctx), g)
		})
	}
}

func (b *batcher) full() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open.group.Size() >= groupBytes
}

// take closes the open group, or returns nil where it is empty.
func (b *batcher) take() *pendingGroup {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open.group.Beacons() == 0 {
		return nil
	}
	g := b.open
	b.open = b.fresh()
	return g
}

func (b *batcher) store(ctx context.Context, g *pendingGroup) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	events := g.group.Events()
	message := g.group.Seal()
	size := len(message)
	start := time.Now()
	_, g.err = b.log.Append(ctx, message)
	b.metrics.journal.UpdateDuration(start)
	if g.err != nil {
		// What the journal holds after a failed write is not known. The
		// clients were told nothing, so they send again; we start again.
		b.fail(g.err)
	} else {
		g.group.Recycle(message)
		b.metrics.journalBytes.Add(size)
		b.metrics.journalEvents.Add(events)
	}
	b.groups.Put(g.group)
	g.group = nil
	close(g.done)
}
