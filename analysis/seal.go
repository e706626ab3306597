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
// on meanwhile. Only one seal runs at a time. It calls rest, which may be nil, where
// it may be held up.
func (e *Engine) seal(ctx context.Context, last bool, rest func()) error {
	start := e.o.Now()
	s, err := e.freeze(last)
	if s == nil || err != nil {
		return err
	}
	if len(s.batches) > 0 {
		if _, err := e.o.Segments.Write(ctx, s.from, s.to, s.batches, rest); err != nil {
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
		if s.checkpoint, err = encodeCheckpoint(checkpoint{Version: checkpointVersion, Position: e.position, Control: e.control, Fold: e.fold}); err != nil {
			return nil, err
		}
		s.encoded = e.o.Now().Sub(began)
	}
	e.settle()
	e.pending, e.order, e.rows, e.sealed = map[batch.Partition]*batch.Batch{}, nil, 0, e.position
	return s, nil
}

// pace holds a seal up, which nobody waits for, so that what beacons wait for has
// the processor: a goroutine that only gives way takes its turn like any other, and
// where there is one processor and two thirds of it are in use, it takes what the
// others lack.
type pace struct {
	hurry <-chan struct{} // closed when there is no time left
	until time.Time       // from then on it only gives way
	began time.Time       // of the work since the last rest
}

const (
	paceWork = time.Millisecond     // no rest before as much
	paceRest = 3                    // times as long as the work is a rest
	paceMost = 5 * time.Millisecond // at most
)

// newPace returns a pace for work that is to be done after some time, or sooner
// when hurry is closed.
func newPace(hurry <-chan struct{}, within time.Duration) *pace {
	now := time.Now()
	return &pace{hurry: hurry, until: now.Add(within), began: now}
}

func (p *pace) rest() {
	now := time.Now()
	worked := now.Sub(p.began)
	if worked < paceWork || now.After(p.until) {
		runtime.Gosched()
		return
	}
	select {
	case <-p.hurry:
	case <-time.After(min(paceRest*worked, paceMost)):
	}
	p.began = time.Now()
}
