// Package analysis is the evaluation loop: it follows the journal, folds its
// batches into sessions, cells and the tests of rollouts, writes segments, and
// hands out verdicts.
//
// There are two logs. The events log holds groups of beacons; the control log
// holds what was asked of rollouts and what was answered. All state is a pure
// function of both, so that a checkpoint is only a short cut: with none, the
// analysis reads both from their beginnings and comes to the same verdicts.
package analysis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/session"
	"serin.dev/serin/analysis/slo"
	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/batch"
	"serin.dev/serin/internal/store/journal"
	"serin.dev/serin/internal/store/segment"
	"serin.dev/serin/internal/tenant"
)

// Errors of the commands on rollouts.
var (
	ErrNotFound = errors.New("no such rollout")
	ErrExists   = errors.New("a rollout with this id exists")
	ErrBudget   = errors.New("an error budget lets no rollout begin")
	ErrStage    = errors.New("stage not allowed")
	ErrEnded    = errors.New("the rollout has ended")
	// ErrCatchingUp says that the journal is still read up to where it was read before
	// the start.
	ErrCatchingUp = errors.New("the analysis is catching up with the journal")
)

// Options say what an engine works on.
type Options struct {
	Events, Control *journal.Log
	Segments        *segment.Store
	Checkpoint      string        // file
	Every           time.Duration // between evaluations; default 500 ms
	SealAfter       time.Duration // longest time between seals; default 10 s
	SealRows        int           // rows that force a seal; default 200,000
	Policies        Policies      // that rollouts may name
	Objectives      Objectives    // of the tenants; those that are no longer there are dropped
	// Documents are the kinds of files that are kept, each with what checks a text and
	// returns the name that it has.
	Documents map[string]func(text []byte) (name string, err error)
	// ParsePolicy reads a document of [KindPolicy].
	ParsePolicy func(text []byte) (canary.Policy, error)
	// ObjectKinds are the kinds of documents that objectives are made of; ParseObjects
	// makes those of a tenant, with notes on what is likely not meant.
	ObjectKinds  []string
	ParseObjects func([]Document) ([]slo.Objective, []string, error)
	Logger       *slog.Logger
	Now          func() time.Time // default time.Now
}

// Engine is the analysis of one process. Its methods are safe for concurrent
// use.
type Engine struct {
	o       Options
	metrics *metricSet
	reports reports

	late atomic.Int64 // when the fold was behind by more than asideFor, Unix ns

	mu        sync.Mutex
	fold      *fold
	position  uint64   // of the last folded message
	control   uint64   // control log position that the fold includes
	behind    bool     // the journal holds more than was folded in time
	queue     []placed // commands that the fold has not reached
	stood     uint64   // where the fold stood as the records from before the start were made
	latest    map[rolloutKey]*issued
	records   map[rolloutKey][]Record // commands and verdicts, for people and the backtest
	ledgered  map[rolloutKey]int      // how many records the ledger beside the segments has
	recent    map[string]*ring        // by tenant
	delivered map[deliveryKey]Told    // the newest report on each
	waiting   map[targetKey]*waiting  // what is still to be told, of targets that were asked about
	documents map[string]*documents   // by tenant
	states    map[stateKey]*sloIssued
	aftermath map[rolloutKey]*aftermath
	asked     map[sloKey]int32 // minute up to which each objective was evaluated
	changed   chan struct{}    // closed and replaced at every new verdict

	checkpointed time.Time     // when the newest checkpoint was written
	cost         time.Duration // and how long that took
	size         int           // of the newest one, bytes
	standsFor    [2]uint64     // the places in the events and the control log that it stands for

	reader  batch.Reader
	pending map[batch.Partition]*batch.Batch // rows not in a segment yet
	spare   map[batch.Partition]*batch.Batch // empty: the memory of the batches that were sealed last
	order   []batch.Partition
	rows    int
	sealed  uint64 // position up to which segments are durable
	ready   bool
	broken  bool // a message was folded in part: nothing may be sealed any more
}

// placed is a record with its place in the control log.
type placed struct {
	Record
	pos uint64
}

// issued is the last verdict recorded for a rollout, and the evaluation that
// last confirmed it.
type issued struct {
	recorded verdict.Verdict
	current  verdict.Verdict
}

// Open restores the engine's state from its checkpoint and the control log.
// Segments beyond the checkpoint are removed: the journal still has their rows.
func Open(ctx context.Context, o Options) (*Engine, error) {
	if o.Every == 0 {
		o.Every = 500 * time.Millisecond
	}
	if o.SealAfter == 0 {
		o.SealAfter = 10 * time.Second
	}
	if o.SealRows == 0 {
		o.SealRows = 200_000
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	e := &Engine{o: o, metrics: newMetricSet(), latest: map[rolloutKey]*issued{}, records: map[rolloutKey][]Record{},
		ledgered: map[rolloutKey]int{}, recent: map[string]*ring{}, delivered: map[deliveryKey]Told{}, waiting: map[targetKey]*waiting{}, documents: map[string]*documents{}, states: map[stateKey]*sloIssued{}, aftermath: map[rolloutKey]*aftermath{}, asked: map[sloKey]int32{}, changed: make(chan struct{}), pending: map[batch.Partition]*batch.Batch{}}
	cp, err := loadCheckpoint(o.Checkpoint)
	if err != nil {
		return nil, err
	}
	e.fold, e.position, e.control, e.sealed = cp.Fold, cp.Position, cp.Control, cp.Position
	e.standsFor = [2]uint64{cp.Position, cp.Control}
	e.fold.leaked = func(tenant, app, release string) {
		e.metrics.leaked(tenant, app)
		e.o.Logger.Warn("a release that is deployed and not released is in people's hands", "tenant", tenant, "app", app, "release", release)
	}
	removed, err := o.Segments.DeleteAfter(e.position)
	if err != nil {
		return nil, fmt.Errorf("remove segments beyond the checkpoint: %w", err)
	}
	_, last, err := o.Control.Bounds(ctx)
	if err != nil {
		return nil, fmt.Errorf("open control log: %w", err)
	}
	if last > 0 {
		err = o.Control.Scan(ctx, 1, last, func(m journal.Message) error {
			r, err := ParseRecord(m.Data)
			if err != nil {
				return fmt.Errorf("position %d: %w", m.Pos, err)
			}
			for _, part := range r.parts() {
				e.restore(placed{part, m.Pos})
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read control log: %w", err)
		}
	}
	e.runQueue(e.position)
	o.Logger.Info("analysis restored", "position", e.position, "control", e.control, "rollouts", len(e.fold.Tests), "segments_removed", removed)
	return e, nil
}

// restore takes in one record of the control log at start.
func (e *Engine) restore(r placed) {
	e.stood = max(e.stood, r.Position)
	k := rolloutKey{r.Tenant, r.ID}
	if r.Type == TypeDelivery {
		e.reported(r.Record)
		if r.Delivery.Rollback > 0 && !r.command() {
			e.records[k] = append(e.records[k], r.Record)
		}
	}
	switch {
	case r.command():
		if r.Type == TypeShadow {
			delete(e.latest, k.shadow()) // another trial, or none
		}
		if r.Type != TypeRelease { // which is of no rollout
			e.records[k] = append(e.records[k], r.Record)
		}
		if r.pos > e.control {
			e.queue = append(e.queue, r)
		}
	case r.Type == TypeVerdict:
		e.records[k] = append(e.records[k], r.Record)
		e.latest[k] = &issued{recorded: *r.Verdict, current: *r.Verdict}
		// A rollback that was given stays given, wherever the checkpoint stood.
		if t := e.fold.Tests[k]; t != nil {
			t.Latch(r.Verdict)
		}
	case r.Type == TypeShadowVerdict:
		e.records[k] = append(e.records[k], r.Record)
		e.latest[k.shadow()] = &issued{recorded: *r.Verdict, current: *r.Verdict}
		if t := e.fold.Tests[k.shadow()]; t != nil {
			t.Latch(r.Verdict)
		}
	case r.Type == TypeDocument:
		e.changedDocument(r.Record)
	case r.Type == TypeSLOState:
		e.records[k] = append(e.records[k], r.Record)
		e.states[stateKey{r.Tenant, r.State.SLO, r.State.Group}] = &sloIssued{recorded: *r.State, current: *r.State}
	case r.Type == TypeAftermath:
		e.records[k] = append(e.records[k], r.Record)
		e.aftermath[k] = &aftermath{recorded: *r.Aftermath, current: *r.Aftermath}
	}
}

// runQueue applies the commands that were given when the fold stood at or
// before position.
func (e *Engine) runQueue(position uint64) {
	for len(e.queue) > 0 && e.queue[0].Position <= position {
		r := e.queue[0]
		e.apply(r.Record)
		e.control = r.pos
		e.queue = e.queue[1:]
		// A verdict recorded after this command may have latched.
		k := rolloutKey{r.Tenant, r.ID}
		for _, given := range e.records[k] {
			switch {
			case given.Type == TypeVerdict && e.fold.Tests[k] != nil:
				e.fold.Tests[k].Latch(given.Verdict)
			case given.Type == TypeShadowVerdict && e.fold.Tests[k.shadow()] != nil && given.At >= e.fold.Tests[k.shadow()].Created:
				e.fold.Tests[k.shadow()].Latch(given.Verdict)
			}
		}
	}
}

// catchUp has verdicts given once the fold has come to the end that the journal had
// at the start. What the records say of places behind it is then of messages that
// a crash of the machine took, which will never come: their commands are run. The
// caller holds mu.
func (e *Engine) catchUp(last uint64) {
	if e.ready || e.position < last {
		return
	}
	e.ready, e.stood = true, min(e.stood, e.position)
	e.runQueue(math.MaxUint64)
}

// settled returns [ErrCatchingUp] until the fold has come to where it stood before
// the start: what a command asks for cannot be checked before, nor may it be run
// at an earlier place than what was recorded before it. The caller holds mu.
func (e *Engine) settled() error {
	if e.position < e.stood {
		return ErrCatchingUp
	}
	return nil
}

// apply changes the fold as a command says, and forgets the answers of a trial
// that it begins or ends.
func (e *Engine) apply(r Record) {
	e.fold.apply(r)
	if r.Type == TypeShadow {
		if l := e.latest[rolloutKey{r.Tenant, r.ID}.shadow()]; l != nil && l.recorded.IssuedAt.UnixMilli() < r.At {
			delete(e.latest, rolloutKey{r.Tenant, r.ID}.shadow())
		}
	}
}

// asideFor is how far the fold may be behind the journal before it takes its full share of
// the processor, for a second at least: what it has not read yet the journal holds in memory.
const asideFor = 200 * time.Millisecond

// Run follows the journal until ctx ends. It returns an error only for what a
// restart has to mend; what is not sealed by then is read again from the
// journal.
func (e *Engine) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	_, last, err := e.o.Events.Bounds(ctx)
	if err != nil {
		return fmt.Errorf("open events log: %w", err)
	}
	e.mu.Lock()
	e.catchUp(last)
	err = e.setObjectives(ctx)
	e.mu.Unlock()
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := e.evaluateLoop(ctx, last); err != nil {
			cancel(err)
		}
	})
	fold := newAside(ctx)
	err = e.o.Events.Follow(ctx, e.position+1, func(m journal.Message) (err error) {
		if now := time.Now(); now.Sub(m.At) > asideFor {
			e.late.Store(now.UnixNano())
		}
		if e.pressed() {
			return e.message(m)
		}
		fold.do(func() { err = e.message(m) })
		return err
	})
	cancel(err)
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// pressed reports whether the fold was behind lately, and so has no processor to spare.
func (e *Engine) pressed() bool { return time.Now().UnixNano()-e.late.Load() < int64(time.Second) }

// message folds one group of beacons.
func (e *Engine) message(m journal.Message) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	ordinal := -1
	err := e.reader.Read(m.Data, func(id tenant.ID, b *event.Beacon) error {
		ordinal++
		s, admission := e.fold.Table.Admit(session.Key{Tenant: id.String(), App: b.App, ID: b.Session}, b.Seq, b.Received)
		if admission == session.Duplicate {
			e.metrics.duplicates.Inc()
			return nil
		}
		p := batch.Partition{Tenant: id, App: b.App, Release: b.Release}
		bt := e.pending[p]
		if bt == nil {
			if bt = e.spare[p]; bt == nil {
				bt = batch.New(p)
			}
			delete(e.spare, p)
			e.pending[p] = bt
			e.order = append(e.order, p)
		}
		lo := bt.Len()
		bt.Append(m.Pos, ordinal, b)
		e.fold.beacon(s, admission == session.First, bt, lo, bt.Len())
		e.rows += bt.Len() - lo
		e.metrics.events.Add(bt.Len() - lo)
		e.remember(id, bt, lo)
		return nil
	})
	if err != nil {
		// The journal checks what it stores, so this is a fault of ours or of
		// the disk: a verdict on a guess would be worse than none.
		e.broken = true
		return fmt.Errorf("fold position %d: %w", m.Pos, err)
	}
	e.position = m.Pos
	e.metrics.position.Store(m.Pos)
	e.runQueue(m.Pos) // not before the next message: there may be none for long
	return nil
}

// evaluateLoop asks all tests for their verdicts, and seals, of which verdicts do
// not wait.
func (e *Engine) evaluateLoop(ctx context.Context, last uint64) (err error) {
	tick := time.NewTicker(e.o.Every)
	defer tick.Stop()
	var sealed chan error // of the seal that runs
	finish := func() (err error) {
		if sealed != nil {
			err, sealed = <-sealed, nil
		}
		return err
	}
	defer func() { err = errors.Join(err, finish()) }()
	hurry, stop := context.WithCancel(ctx)
	defer stop()
	seals := newAside(ctx)
	lastSeal := e.o.Now()
	caughtUp := e.o.Now()
	for {
		select {
		case <-ctx.Done():
			if err := finish(); err != nil {
				return err
			}
			return e.seal(context.WithoutCancel(ctx), true, nil)
		case err := <-sealed:
			if sealed = nil; err != nil {
				return err
			}
			continue
		case <-tick.C:
		}
		_, newest, err := e.o.Events.Bounds(ctx)
		if ctx.Err() != nil {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the journal's bounds: %w", err)
		}
		now := e.o.Now()
		e.mu.Lock()
		e.catchUp(last)
		if e.position+64 >= newest {
			caughtUp = now
		}
		e.behind = now.Sub(caughtUp) > 10*time.Second
		e.metrics.lag.Store(newest - min(newest, e.position))
		full := e.rows >= e.o.SealRows
		var errEval error
		if e.ready {
			// An end that comes while a record is written waits for it: else the last seal
			// would not be made, and the next start had all of it to do again.
			errEval = e.evaluate(context.WithoutCancel(ctx), now)
		}
		e.mu.Unlock()
		if errEval != nil {
			return errEval
		}
		if sealed == nil && (full || now.Sub(lastSeal) >= e.o.SealAfter) {
			// Rows that come meanwhile are held beside those that are sealed: an eighth as many.
			p := newPace(seals, func() bool { return full || e.pressed() }, hurry.Done(), now.Sub(lastSeal)/8)
			sealed, lastSeal = make(chan error, 1), now
			go func(done chan<- error) {
				done <- e.seal(context.WithoutCancel(ctx), false, p)
			}(sealed)
		}
	}
}

// record appends to the control log. The caller holds mu.
func (e *Engine) record(ctx context.Context, r Record) (uint64, error) {
	data, err := r.encode()
	if err != nil {
		return 0, err
	}
	return e.append(ctx, r, data)
}

// encode returns the record as the control log has it.
func (r *Record) encode() ([]byte, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("record %s of %s: %w", r.Type, r.ID, err)
	}
	return data, nil
}

// append is record for one that is encoded already.
func (e *Engine) append(ctx context.Context, r Record, data []byte) (uint64, error) {
	pos, err := e.o.Control.Append(ctx, data)
	if err != nil {
		return 0, fmt.Errorf("record %s of %s: %w", r.Type, r.ID, err)
	}
	for _, part := range r.parts() {
		if part.kept() {
			k := rolloutKey{part.Tenant, part.ID}
			e.records[k] = append(e.records[k], part)
			if part.Type == TypeVerdict {
				e.due(k)
			}
		}
	}
	return pos, nil
}

// enact records what was asked for or reported, and applies it where it is a
// command. Until the fold has come to where it stood before the start, commands wait
// behind those from before: they are run in the order of the log. The caller
// holds mu.
func (e *Engine) enact(ctx context.Context, r Record) error {
	r.Position = e.place()
	data, err := r.encode()
	if err != nil {
		return err
	}
	return e.enactAs(ctx, r, data)
}

// place is where commands stand in the events log. The caller holds mu.
func (e *Engine) place() uint64 { return max(e.position, e.stood) }

// enactAs is enact for a record that has its place and is encoded already.
func (e *Engine) enactAs(ctx context.Context, r Record, data []byte) error {
	pos, err := e.append(ctx, r, data)
	if err != nil {
		return err
	}
	for _, part := range r.parts() {
		switch {
		case part.Type == TypeDocument:
			e.changedDocument(part)
		case !part.command():
		case e.settled() != nil:
			e.queue = append(e.queue, placed{part, pos})
		default:
			e.apply(part)
			e.control = pos
		}
	}
	return nil
}
