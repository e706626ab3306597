package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// pullBytes is how much a follower asks for ahead of what it has handled;
	// at least two of the largest messages, so that one may be on its way
	// while one is handled.
	pullBytes = 32 << 20

	// pullMessages bounds the same by count, for logs of small messages.
	pullMessages = 10_000

	// heartbeat is how often the server says that it is there when it has no
	// message. Two missed ones make the follower start afresh.
	heartbeat = 5 * time.Second

	// idle is when the server forgets a follower that vanished. A handler that
	// takes longer than this for its share of pullBytes only costs a restart.
	idle = time.Minute

	// maxRestarts is how often in a row a follower may start afresh at the same
	// hole before it believes that the hole is in the log and not in transport.
	maxRestarts = 3
)

// Message is one message of a log.
type Message struct {
	// Pos is its position.
	Pos uint64
	// At is when the server stored it, or acknowledged that.
	At time.Time
	// Data is what was appended. It belongs to the function it is handed to,
	// until that returns.
	Data []byte
}

// Follow calls fn with every message from position from on, in order, each
// exactly once, and then with new ones as they are stored. It returns ctx's
// error as it is when ctx ends, fn's error as it is when fn fails, and
// ErrClosed when the journal is closed; it never returns nil.
//
// from 1 is the very first message. from 0 is the first that is still kept.
// If a position that is due was discarded, at the start or because fn was
// slower than MaxAge, the error is ErrDiscarded and names the first one kept.
// A lost connection is waited out. A position missing for any other reason is
// ErrGap.
func (l *Log) Follow(ctx context.Context, from uint64, fn func(Message) error) error {
	doing := fmt.Sprintf("follow log %s from %d", l.name, from)
	var t *tail
	if l.j.srv != nil {
		if t = newTail(); l.tail.CompareAndSwap(nil, t) {
			defer l.tail.Store(nil)
		} else {
			t = nil // somebody else follows, too
		}
	}
	first, last, err := l.Bounds(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	r, err := l.reader(first, from, fn)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if t != nil {
		t.begin(last + 1)
		r.tail = t
	}
	return r.run(ctx, doing)
}

// Scan calls fn with the messages from from to to, both inclusive, in order,
// and returns nil. It stops at what is the last position when it begins, so it
// never waits for new messages. from, and the errors, are as for Follow.
func (l *Log) Scan(ctx context.Context, from, to uint64, fn func(Message) error) error {
	doing := fmt.Sprintf("scan log %s from %d to %d", l.name, from, to)
	first, last, err := l.Bounds(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	r, err := l.reader(first, from, fn)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if r.to = min(to, last); r.next > r.to {
		return nil
	}
	return r.run(ctx, doing)
}

// reader is one run of Follow or Scan.
type reader struct {
	l    *Log
	fn   func(Message) error
	next uint64 // the position due
	to   uint64 // the last one wanted; 0 means no end
	tail *tail  // nil: all is read from the server

	// anyFirst accepts that the front expires between asking and reading: what
	// was asked for is whatever is kept. It ends with the first message.
	anyFirst bool
}

func (l *Log) reader(first, from uint64, fn func(Message) error) (*reader, error) {
	r := &reader{l: l, fn: fn, next: from}
	switch {
	case from == 0:
		r.next, r.anyFirst = first, true
	case from < first:
		return nil, discarded(first)
	}
	return r, nil
}

func discarded(first uint64) error {
	return fmt.Errorf("%w: first available is %d", ErrDiscarded, first)
}

// handlerError carries fn's error out of the session untouched.
type handlerError struct{ error }

// run holds sessions until one ends for good.
//
// nats.go's ordered consumer would start afresh by itself, but resets without a
// bound, hides a hole in the log that MaxAge tore, and keeps one goroutine more;
// forty lines here say exactly when to give up.
func (r *reader) run(ctx context.Context, doing string) error {
	var restarts int
	for {
		before := r.next
		err := r.read(ctx)
		var h handlerError
		switch {
		case errors.As(err, &h):
			return h.error
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case r.l.j.closed.Load():
			return fmt.Errorf("%s: %w", doing, ErrClosed)
		}
		if r.next > before {
			restarts = 0
		}
		switch {
		case errors.Is(err, ErrDiscarded), errors.Is(err, jetstream.ErrStreamNotFound):
			return fmt.Errorf("%s: %w", doing, err)
		case errors.Is(err, ErrGap):
			if restarts++; restarts > maxRestarts {
				return fmt.Errorf("%s: %w", doing, err)
			}
		}
		r.l.j.logger.Warn("journal: follower starts afresh", "log", r.l.name, "next", r.next, "err", err)
		select {
		case <-ctx.Done():
		case <-r.l.j.ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// errHere says that the message due is in the tail, or will be.
var errHere = errors.New("in the tail")

// read reads from the tail what is there, and from the server what is not.
func (r *reader) read(ctx context.Context) error {
	for {
		if r.tail != nil {
			if err := r.newest(ctx); err != errNotHere {
				return err
			}
		}
		if err := r.session(ctx); err != errHere {
			return err
		}
	}
}

// newest reads from the tail.
func (r *reader) newest(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.l.j.ctx, cancel)()
	for {
		m, err := r.tail.await(ctx, r.next)
		if err != nil {
			return err
		}
		err = r.give(ctx, m)
		r.tail.drop(m)
		if err != nil {
			return err
		}
	}
}

// session reads through one consumer from r.next on. It returns nil when r.to
// is reached, and errHere when the next message is the tail's.
func (r *reader) session(ctx context.Context) error {
	js := r.l.j.readJS
	cons, err := js.CreateConsumer(ctx, r.l.stream, jetstream.ConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       r.next,
		AckPolicy:         jetstream.AckNonePolicy,
		InactiveThreshold: idle,
		MemoryStorage:     true, // our position is the caller's to keep
		Replicas:          1,
	})
	if err != nil {
		return err
	}
	defer func() {
		if r.l.j.closed.Load() {
			return
		}
		// Best effort: the server forgets it by itself after idle.
		ctx, cancel := context.WithTimeout(r.l.j.ctx, time.Second)
		defer cancel()
		_ = js.DeleteConsumer(ctx, r.l.stream, cons.CachedInfo().Name)
	}()
	it, err := cons.Messages(
		jetstream.PullMaxMessagesWithBytesLimit(pullMessages, pullBytes),
		jetstream.PullHeartbeat(heartbeat))
	if err != nil {
		return err
	}
	defer it.Stop()
	// Cheaper than a context per message, and Close has to end us too.
	defer context.AfterFunc(ctx, it.Stop)()
	defer context.AfterFunc(r.l.j.ctx, it.Stop)()

	for {
		m, err := it.Next()
		if err != nil {
			return fmt.Errorf("read next message: %w", err)
		}
		if err := r.deliver(ctx, m); err != nil {
			return err
		}
		if r.to != 0 && r.next > r.to {
			return nil
		}
		if r.tail != nil && r.tail.covers(r.next) {
			return errHere
		}
	}
}

// deliver checks that m is the message due and hands it on.
func (r *reader) deliver(ctx context.Context, m jetstream.Msg) error {
	meta, err := m.Metadata()
	if err != nil {
		return err
	}
	pos := meta.Sequence.Stream
	switch {
	case pos < r.next:
		return nil // seen already; it must not be seen twice
	case pos > r.next:
		if err := r.hole(ctx, pos); err != nil {
			return err
		}
	}
	if r.to != 0 && pos > r.to {
		r.next = pos // all that was wanted has expired meanwhile
		return nil
	}
	return r.give(ctx, Message{Pos: pos, At: meta.Timestamp, Data: m.Data()})
}

// give hands on the message due.
func (r *reader) give(ctx context.Context, m Message) error {
	// Messages that were read ahead outlive ctx; the handler must not.
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := r.fn(m); err != nil {
		return handlerError{err}
	}
	r.next, r.anyFirst = m.Pos+1, false
	return nil
}

// hole decides what it means that pos came instead of r.next. It returns nil
// when that is in order.
func (r *reader) hole(ctx context.Context, pos uint64) error {
	first, _, err := r.l.Bounds(ctx)
	if err != nil {
		return err
	}
	if first > r.next {
		if !r.anyFirst {
			return discarded(first)
		}
		if r.next = min(first, pos); r.next == pos {
			return nil
		}
	}
	return fmt.Errorf("%w: %d came where %d was due", ErrGap, pos, r.next)
}
