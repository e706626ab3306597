package session

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"slices"

	"serin.dev/serin/internal/event"
)

// Table holds the sessions of all tenants. It is not safe for concurrent use.
// Its exported fields are kept in checkpoints, after [Table.Settle], and what [Table.Parts] gives out.
//
// Most sessions take part in no rollout and send their beacons in order. Of
// those only a few numbers are kept, under a hash of the key: 24 bytes and no
// pointer, since there may be millions.
type Table struct {
	// Sessions are those that take part in a rollout, or of which more than a few
	// numbers is known.
	Sessions map[Key]*Session
	plain    map[plainKey]plain // the others, which [Table.Parts] gives out
	Now      int64              // highest receive time seen, Unix ms
	swept    int64
	open     *Session // the newest one where it is not in Sessions; what plain has of it is old
	openHash plainKey // of its key
	name     []byte   // scratch
}

// plainKey is the first half of a SHA-256 of a key. A client may choose its
// session's id, so the hash is one of which nobody can make two alike.
type plainKey [16]byte

// plain is what is kept of a session.
type plain struct {
	entered int64
	lasted  uint32 // ms from entered to the last beacon
	next    uint32
	beacons uint32
	failed  uint16
	shed    bool
}

// NewTable returns an empty table.
func NewTable() *Table { return &Table{Sessions: map[Key]*Session{}, plain: map[plainKey]plain{}} }

// Len returns how many sessions are kept.
func (t *Table) Len() int {
	t.Settle()
	return len(t.Sessions) + len(t.plain)
}

func (t *Table) hash(k Key) (h plainKey) {
	t.name = t.name[:0]
	for _, s := range [...]string{k.Tenant, k.App, k.ID} {
		t.name = append(binary.AppendUvarint(t.name, uint64(len(s))), s...)
	}
	sum := sha256.Sum256(t.name)
	copy(h[:], sum[:])
	return h
}

// life is how long after its last beacon a session is kept.
func (s *Session) life() int64 {
	if len(s.Enrolled) > 0 {
		return TTL
	}
	return Idle
}

// find returns a session that is kept, or nil; then openHash is of its key.
func (t *Table) find(k Key) *Session {
	if t.open != nil && t.open.Key == k {
		return t.alive(t.open)
	}
	t.Settle()
	if s := t.Sessions[k]; s != nil {
		return t.alive(s)
	}
	t.openHash = t.hash(k)
	p, ok := t.plain[t.openHash]
	if !ok {
		return nil
	}
	t.open = &Session{Key: k, Entered: p.entered, Last: p.entered + int64(p.lasted), Next: p.next, Beacons: int64(p.beacons), Failed: p.failed, Shed: p.shed}
	return t.alive(t.open)
}

// Enrolled returns a session that takes part in a rollout, or nil where none of
// that key is kept.
func (t *Table) Enrolled(k Key) *Session {
	if t.open != nil && t.open.Key == k {
		return t.open // it is not where it belongs yet
	}
	return t.Sessions[k]
}

// alive returns s, or nil where its time is over: then it is forgotten, whether
// or not [Table.Sweep] came by already.
func (t *Table) alive(s *Session) *Session {
	if t.Now-s.Last <= s.life() {
		return s
	}
	if s == t.open {
		t.open = nil
		delete(t.plain, t.openHash)
	} else {
		t.openHash = t.hash(s.Key)
		delete(t.Sessions, s.Key)
	}
	return nil
}

// Settle puts the newest session where it belongs, as must be done before a
// table is written to a checkpoint.
func (t *Table) Settle() {
	s := t.open
	if s == nil {
		return
	}
	t.open = nil
	lasted := s.Last - s.Entered
	if len(s.Enrolled)+len(s.Sparse)+len(s.Hashed) > 0 || lasted < 0 || lasted > math.MaxUint32 || s.Beacons > math.MaxUint32 {
		delete(t.plain, t.openHash)
		t.Sessions[s.Key] = s
		return
	}
	t.plain[t.openHash] = plain{entered: s.Entered, lasted: uint32(lasted), next: s.Next, beacons: uint32(s.Beacons), failed: s.Failed, shed: s.Shed}
}

// Admission says what a beacon is to its session.
type Admission int

// The admissions.
const (
	Fresh     Admission = iota // a beacon not seen before
	First                      // the first of its session
	Duplicate                  // seen before, or beyond what is remembered
)

// Admit marks a beacon as seen and says whether it is new. What is to be noted
// of its session must be noted before the next call.
func (t *Table) Admit(k Key, seq uint32, received int64) (*Session, Admission) {
	t.Now = max(t.Now, received)
	s := t.find(k)
	first := s == nil
	if first {
		s = &Session{Key: k, Entered: received, Last: received}
		t.open = s
	}
	switch {
	case seq >= event.Unordered:
		if slices.Contains(s.Hashed, seq) {
			return s, Duplicate
		}
		if len(s.Hashed) >= maxHashed {
			s.Hashed = slices.Delete(s.Hashed, 0, 1)
		}
		s.Hashed = append(s.Hashed, seq)
	case seq < s.Next || slices.Contains(s.Sparse, seq):
		return s, Duplicate
	case seq == s.Next:
		s.Next++
		for {
			i := slices.Index(s.Sparse, s.Next)
			if i < 0 {
				break
			}
			s.Sparse = slices.Delete(s.Sparse, i, i+1)
			s.Next++
		}
	case len(s.Sparse) >= maxSparse:
		return s, Duplicate
	default:
		s.Sparse = append(s.Sparse, seq)
	}
	// One body of a protocol without numbers is several beacons where it tells of
	// several pages. They came at once, and are no sign of life after the first.
	if seq < event.Unordered || first || received != s.Last {
		if s.Beacons++; s.Beacons == 2 {
			s.Spoke = received
		}
	}
	s.Last = max(s.Last, received)
	if first {
		return s, First
	}
	return s, Fresh
}

// Sweep forgets sessions whose last beacon is older than [TTL], or than [Idle],
// at most once a minute of receive time, and returns how many it forgot.
func (t *Table) Sweep() (forgotten int) {
	t.Settle()
	if t.Now-t.swept < 60_000 {
		return 0
	}
	t.swept = t.Now
	for k, s := range t.Sessions {
		if t.Now-s.Last > s.life() {
			delete(t.Sessions, k)
			forgotten++
		}
	}
	for h, p := range t.plain {
		if t.Now-p.entered-int64(p.lasted) > Idle {
			delete(t.plain, h)
			forgotten++
		}
	}
	return forgotten
}

// plainBytes is what one takes in a checkpoint.
const plainBytes = 16 + 8 + 3*4 + 2 + 1

// partSessions is how many are in a part.
const partSessions = 2048

// Parts calls each with the sessions of which little is kept, some at a time, one after
// the other: by reflection a checkpoint of a million would take seconds. A part is
// written over by the next. An error of each ends it, and is returned.
func (t *Table) Parts(each func(part []byte) error) error {
	b := make([]byte, 0, plainBytes*min(partSessions, len(t.plain)))
	for h, s := range t.plain {
		b = append(b, h[:]...)
		b = binary.LittleEndian.AppendUint64(b, uint64(s.entered))
		for _, n := range [...]uint32{s.lasted, s.next, s.beacons} {
			b = binary.LittleEndian.AppendUint32(b, n)
		}
		b = binary.LittleEndian.AppendUint16(b, s.failed)
		shed := byte(0)
		if s.shed {
			shed = 1
		}
		if b = append(b, shed); len(b) == cap(b) {
			if err := each(b); err != nil {
				return err
			}
			b = b[:0]
		}
	}
	if len(b) == 0 {
		return nil
	}
	return each(b)
}

// AddPart adds the sessions of a part to a table from a checkpoint.
func (t *Table) AddPart(b []byte) error {
	if len(b)%plainBytes != 0 {
		return errors.New("sessions of a checkpoint: cut short")
	}
	if t.plain == nil {
		t.plain = map[plainKey]plain{}
	}
	for ; len(b) > 0; b = b[plainBytes:] {
		u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
		t.plain[plainKey(b[:16])] = plain{entered: int64(binary.LittleEndian.Uint64(b[16:])), lasted: u32(24), next: u32(28), beacons: u32(32),
			failed: binary.LittleEndian.Uint16(b[36:]), shed: b[38] != 0}
	}
	return nil
}
