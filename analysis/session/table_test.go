package session

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"runtime"
	"testing"

	"serin.dev/serin/internal/event"
)

// model is a table that keeps every session whole, for good.
type model struct {
	sessions map[Key]*Session
	now      int64
}

func (m *model) admit(k Key, seq uint32, received int64) (*Session, Admission) {
	m.now = max(m.now, received)
	s := m.sessions[k]
	if s != nil {
		life := int64(Idle)
		if len(s.Enrolled) > 0 {
			life = TTL
		}
		if m.now-s.Last > life {
			s = nil
		}
	}
	first := s == nil
	if first {
		s = &Session{Key: k, Entered: received, Last: received}
		m.sessions[k] = s
	}
	seen := map[uint32]bool{}
	for n := range s.Next {
		seen[n] = true
	}
	for _, n := range append(append([]uint32{}, s.Sparse...), s.Hashed...) {
		seen[n] = true
	}
	if seen[seq] {
		return s, Duplicate
	}
	if seq >= event.Unordered {
		s.Hashed = append(s.Hashed, seq)
	} else {
		s.Sparse = append(s.Sparse, seq)
		for again := true; again; {
			again = false
			for i, n := range s.Sparse {
				if n == s.Next {
					s.Next++
					s.Sparse = append(s.Sparse[:i], s.Sparse[i+1:]...)
					again = true
					break
				}
			}
		}
	}
	s.Last = max(s.Last, received)
	s.Beacons++
	if first {
		return s, First
	}
	return s, Fresh
}

// Whatever order beacons come in, and however often the table is swept and read
// from a checkpoint, it answers as one that keeps everything.
func TestTableAgainstModel(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		table, m := NewTable(), &model{sessions: map[Key]*Session{}}
		now := int64(1_790_000_000_000)
		for step := range 1500 {
			now += int64(r.IntN(120_000))
			if r.IntN(100) == 0 {
				now += int64(r.IntN(2 * TTL))
			}
			k := Key{Tenant: fmt.Sprint("t", r.IntN(2)), App: fmt.Sprint("a", r.IntN(2)), ID: fmt.Sprint("session-", r.IntN(12))}
			seq := uint32(r.IntN(10))
			if r.IntN(5) == 0 {
				seq |= event.Unordered
			}
			received := now - int64(r.IntN(3*Idle/2)*r.IntN(2))
			s, got := table.Admit(k, seq, received)
			ref, want := m.admit(k, seq, received)
			if got != want {
				t.Fatalf("seed %d step %d: admission %d, want %d", seed, step, got, want)
			}
			if got == First && r.IntN(3) == 0 {
				s.Enrolled = append(s.Enrolled, Enrollment{Rollout: "r", Epoch: received})
				ref.Enrolled = append(ref.Enrolled, Enrollment{Rollout: "r", Epoch: received})
			}
			if r.IntN(4) == 0 {
				s.Failed |= 1 << r.IntN(int(Metrics))
				s.Shed = true
				ref.Failed, ref.Shed = s.Failed, s.Shed
			}
			if s.Entered != ref.Entered || s.Last != ref.Last || s.Next != ref.Next || s.Beacons != ref.Beacons || s.Failed != ref.Failed || s.Shed != ref.Shed ||
				s.Gap() != ref.Gap() || len(s.Hashed) != len(ref.Hashed) || !reflect.DeepEqual(s.Enrolled, ref.Enrolled) {
				t.Fatalf("seed %d step %d: %+v, want %+v", seed, step, s, ref)
			}
			if r.IntN(20) == 0 {
				table.Sweep()
			}
			if r.IntN(100) == 0 {
				table = reopened(t, table)
			}
		}
	}
}

// reopened is the table as a checkpoint gives it back.
func reopened(t *testing.T, table *Table) *Table {
	t.Helper()
	table.Sweep()
	var buf bytes.Buffer
	if err := gob.NewEncoder(&buf).Encode(table); err != nil {
		t.Fatal(err)
	}
	out := new(Table)
	if err := errors.Join(gob.NewDecoder(&buf).Decode(out), table.Parts(out.AddPart), out.AddPart(nil)); err != nil {
		t.Fatal(err)
	}
	if out.Sessions == nil { // gob leaves out what is empty
		out.Sessions = map[Key]*Session{}
	}
	if out.Len() != table.Len() {
		t.Fatalf("%d sessions in the checkpoint, want %d", out.Len(), table.Len())
	}
	return out
}

// TestParts gives more sessions out than are in one part.
func TestParts(t *testing.T) {
	table, out := NewTable(), new(Table)
	for i := range 2*partSessions + 1 {
		table.plain[plainKey{byte(i), byte(i >> 8)}] = plain{entered: int64(i), next: uint32(i), shed: i%2 == 0}
	}
	parts := 0
	err := table.Parts(func(b []byte) error {
		parts++
		if err := new(Table).AddPart(b[:len(b)-1]); err == nil {
			t.Error("a part that is cut short was read")
		}
		return out.AddPart(b)
	})
	if err != nil || parts != 3 || !maps.Equal(out.plain, table.plain) {
		t.Errorf("%v, %d parts with %d of %d sessions", err, parts, len(out.plain), len(table.plain))
	}
	want := errors.New("full")
	if err := table.Parts(func([]byte) error { return want }); err != want {
		t.Errorf("%v, want %v", err, want)
	}
}

// BenchmarkTable admits sessions of three beacons each, and reports what one
// takes in memory.
func BenchmarkTable(b *testing.B) {
	const sessions = 300_000
	keys := make([]Key, sessions)
	for i := range keys {
		keys[i] = Key{Tenant: "shop", App: "web", ID: fmt.Sprintf("%032x", i)}
	}
	memory := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := memory()
	for b.Loop() {
		t := NewTable()
		for i := range 3 * sessions {
			t.Admit(keys[i%sessions], uint32(i/sessions), 1_790_000_000_000+int64(i))
		}
		b.StopTimer()
		b.ReportMetric(float64(memory()-before)/float64(t.Len()), "B/session")
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(3*sessions), "ns/beacon")
	runtime.KeepAlive(keys)
}

// TestEnrolledFindsTheNewest looks for a session while it is the newest, which
// the table keeps apart, and after others came.
func TestEnrolledFindsTheNewest(t *testing.T) {
	table := NewTable()
	k := Key{Tenant: "t", App: "a", ID: "session-1"}
	s, _ := table.Admit(k, 0, 1000)
	s.Enrolled = []Enrollment{{Rollout: "r"}}
	if got := table.Enrolled(k); got != s {
		t.Fatalf("the newest: %+v", got)
	}
	if again, _ := table.Admit(k, 1, 2000); again != s || table.Enrolled(k) != s {
		t.Error("its second beacon, with none between, loses it")
	}
	table.Admit(Key{Tenant: "t", App: "a", ID: "session-2"}, 0, 3000)
	if table.Enrolled(k) != s || table.Enrolled(Key{Tenant: "t", App: "a", ID: "session-3"}) != nil {
		t.Error("after others came")
	}
}
