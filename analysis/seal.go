package analysis

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"time"

	"serin.dev/serin/internal/store/batch"
	"serin.dev/serin/internal/store/segment"
)

// checkpointRest is how many times as long as a checkpoint took to write no
// other one is written: a checkpoint holds every session, and written with each
// segment it would in time take all there is. A start then reads as much more of
// the journal.
const checkpointRest = 20

// sealing is what one seal makes durable: the state as it stood at a position.
type sealing struct {
	from, to   uint64 // positions of the batches
	batches    []*batch.Batch
	ledgers    []ledger
	checkpoint []byte // nil: none is due
	control    uint64 // the place in the control log that it stands for
	encoded    time.Duration
}

// ledger is the records of one rollout.
type ledger struct {
	key  rolloutKey
	n    int
	data []byte
}

// seal makes what was folded durable as segments, and now and then, or where it
// is the last one, the checkpoint that stands for them. A crash leaves segments
// beyond the checkpoint, which [Open] removes. Files are written without the
// lock: a sync can take as long as the disk likes, and folding and questions go
// on meanwhile. Only one seal runs at a time. p may be nil: then it is done as fast as it can be.
func (e *Engine) seal(ctx context.Context, last bool, p *pace) error {
	start := e.o.Now()
	s, err := e.freeze(last)
	if s == nil || err != nil {
		return err
	}
	var do func(work func())
	if p != nil {
		do = p.do
	}
	if len(s.batches) > 0 {
		if _, err := e.o.Segments.Write(ctx, s.from, s.to, s.batches, do); err != nil {
			return fmt.Errorf("write segments up to %d: %w", s.to, err)
		}
	}
	for _, l := range s.ledgers {
		if err := e.o.Segments.PutLedger(l.key.Tenant, l.key.ID, l.data); err != nil {
			return err
		}
	}
	spare := make(map[batch.Partition]*batch.Batch, len(s.batches))
	for _, b := range s.batches {
		b.Reset()
		spare[b.Partition] = b
	}
	written := e.o.Now()
	if s.checkpoint != nil {
		if err := segment.WriteFile(e.o.Checkpoint, s.checkpoint); err != nil {
			return fmt.Errorf("write checkpoint: %w", err)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.spare = spare
	for _, l := range s.ledgers {
		e.ledgered[l.key] = l.n
	}
	if s.checkpoint != nil {
		e.standsFor = [2]uint64{s.to, s.control}
		e.checkpointed = e.o.Now()
		e.cost = s.encoded + e.checkpointed.Sub(written)
	}
	e.metrics.seals.UpdateDuration(start)
	return nil
}

// freeze takes out of the engine what a seal is to write. It returns nil where
// nothing may be sealed any more.
func (e *Engine) freeze(last bool) (*sealing, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.broken {
		return nil, nil
	}
	s := &sealing{from: e.sealed + 1, to: e.position}
	if e.position > e.sealed {
		for _, p := range e.order {
			s.batches = append(s.batches, e.pending[p])
		}
	}
	e.fold.Cells.Forget(e.fold.Table.Now)
	e.fold.Table.Sweep()
	for k, rs := range e.records {
		if e.ledgered[k] == len(rs) {
			continue
		}
		data, err := json.MarshalIndent(rs, "", " ")
		if err != nil {
			return nil, fmt.Errorf("write ledger of %s: %w", k.ID, err)
		}
		s.ledgers = append(s.ledgers, ledger{k, len(rs), data})
	}
	// The state is a function of the logs: where they stand, another checkpoint would be
	// the same.
	if began := e.o.Now(); (last || began.Sub(e.checkpointed) >= checkpointRest*e.cost) && e.standsFor != [2]uint64{e.position, e.control} {
		var err error
		s.control = e.control
		if s.checkpoint, err = encodeCheckpoint(checkpoint{Version: checkpointVersion, Position: e.position, Control: e.control, Fold: e.fold}, e.size); err != nil {
			return nil, err
		}
		s.encoded, e.size = e.o.Now().Sub(began), len(s.checkpoint)
	}
	e.settle()
	e.pending, e.order, e.rows, e.sealed = map[batch.Partition]*batch.Batch{}, nil, 0, e.position
	return s, nil
}

// pace is how a seal is done, which nobody waits for: aside, and a little at a time, so
// that what beacons wait for has the processor. A goroutine that only gives way takes its
// turn like any other, and where there is one processor and two thirds of it are in use,
// it takes what the others lack.
type pace struct {
	aside  *aside
	late   func() bool     // there is no processor to spare: aside it would take too long, and what is sealed is held meanwhile
	hurry  <-chan struct{} // closed when there is no time left
	until  time.Time       // from then on nothing is held up
	worked time.Duration   // since the last rest
}

const (
	paceWork = time.Millisecond     // no rest before as much
	paceRest = 3                    // times as long as the work is a rest
	paceMost = 5 * time.Millisecond // at most
)

// newPace returns a pace for work that is to be done after some time, or sooner
// when hurry is closed.
func newPace(a *aside, late func() bool, hurry <-chan struct{}, within time.Duration) *pace {
	return &pace{aside: a, late: late, hurry: hurry, until: time.Now().Add(within)}
}

// do does a part of the work, and rests where it was enough.
func (p *pace) do(work func()) {
	began := time.Now()
	switch {
	case began.After(p.until):
		work()
		runtime.Gosched()
		return
	case p.late():
		work()
	default:
		p.aside.do(work)
	}
	if p.worked += time.Since(began); p.worked < paceWork {
		return
	}
	select {
	case <-p.hurry:
	case <-time.After(min(paceRest*p.worked, paceMost)):
	}
	p.worked = 0
}
