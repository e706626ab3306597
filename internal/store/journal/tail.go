package journal

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"
)

// The bounds of a tail.
const (
	tailBytes    = 16 << 20  // of messages that were not taken yet; past it the follower reads from the server
	spareBuffers = 16        // that are kept for messages to come
	spareBytes   = 256 << 10 // at most, of each
)

// patience is how long a position may be missing where a later one is there: appends that
// are in flight together are acknowledged in any order.
const patience = time.Second

// errNotHere says that the message due is to be read from the server.
var errNotHere = errors.New("not in the tail")

// tail is the newest messages of a log, each kept from its acknowledgment until the one
// follower takes it: they are read without the server, which would send each back through
// a connection. That was a sixth of all garbage, and a twentieth of the time.
//
// It is of an embedded journal, whose appends are all this process's.
type tail struct {
	mu    sync.Mutex
	from  uint64 // messages from here on are here when they are acknowledged
	next  uint64 // the position that the follower is at, if it is one of those
	held  map[uint64]Message
	last  uint64 // the highest position of one
	bytes int
	spare [][]byte
	more  chan struct{} // says that something has changed
}

func newTail() *tail {
	return &tail{from: 1, held: map[uint64]Message{}, more: make(chan struct{}, 1)}
}

// begin says from which position on all messages are acknowledged since the tail is there.
func (t *tail) begin(from uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.from = max(t.from, from) // it may have been emptied since
	for pos, m := range t.held {
		if pos < t.from {
			delete(t.held, pos)
			t.bytes -= len(m.Data)
		}
	}
}

// put copies a message that was acknowledged.
func (t *tail) put(pos uint64, data []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if pos < t.from || pos < t.next {
		return
	}
	if t.bytes+len(data) > tailBytes {
		t.empty(max(pos, t.last) + 1)
		return
	}
	var buf []byte
	if n := len(t.spare); n > 0 {
		buf, t.spare = t.spare[n-1], t.spare[:n-1]
	}
	t.held[pos] = Message{Pos: pos, At: time.Now(), Data: append(buf[:0], data...)}
	t.last = max(t.last, pos)
	t.bytes += len(data)
	t.changed()
}

// unsure says that something may have been stored that is not here.
func (t *tail) unsure() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.empty(math.MaxUint64)
}

// empty drops all messages; those from from on will be here again. The caller holds mu.
func (t *tail) empty(from uint64) {
	clear(t.held)
	t.from, t.bytes = from, 0
	t.changed()
}

func (t *tail) changed() {
	select {
	case t.more <- struct{}{}:
	default:
	}
}

// covers reports whether a position is here, or will be.
func (t *tail) covers(pos uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return pos >= t.from
}

// get returns the message of a position, which is the next that the follower takes, if it
// is here; waits says that it will be, and due that a later one is.
func (t *tail) get(pos uint64) (m Message, ok, waits, due bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next = pos
	m, ok = t.held[pos]
	return m, ok, pos >= t.from, t.last > pos
}

// drop takes back the memory of a message that was read.
func (t *tail) drop(m Message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.held[m.Pos]; ok {
		delete(t.held, m.Pos)
		t.bytes -= len(m.Data)
	}
	if len(t.spare) < spareBuffers && cap(m.Data) <= spareBytes {
		t.spare = append(t.spare, m.Data)
	}
}

// await waits for the message of a position. It returns errNotHere where that is to be read
// from the server.
func (t *tail) await(ctx context.Context, pos uint64) (Message, error) {
	var late <-chan time.Time
	for {
		m, ok, waits, due := t.get(pos)
		switch {
		case ok:
			return m, nil
		case !waits:
			return m, errNotHere
		case due && late == nil:
			late = time.After(patience)
		}
		select {
		case <-t.more:
		case <-late:
			return m, errNotHere
		case <-ctx.Done():
			return m, ctx.Err()
		}
	}
}
