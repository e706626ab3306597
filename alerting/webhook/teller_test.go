package webhook

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// script answers one try after the other.
type script struct {
	answers []Answer
	errs    []error
	at      []time.Time
}

func (s *script) Tell(context.Context, Message) (Answer, error) {
	i := len(s.at)
	s.at = append(s.at, time.Now())
	return s.answers[i], s.errs[i]
}

// TestTeller has ways of telling of their own: the schedule is the deliverer's, and
// what will never be taken is not tried again, and does not hold up the next.
func TestTeller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: []Answer{{}, {Status: 451}, {Status: 250}, {Status: 400}, {Status: 404}},
			errs: []error{fmt.Errorf("no route"), fmt.Errorf("later"), nil, fmt.Errorf("%w: never", ErrRejected), fmt.Errorf("%w: removed", ErrGone)}}
		m := newMemory(message("a", "s"), message("b", "s"), message("c", "s"))
		d, err := New(Options{Targets: []Target{{Tenant: "t", Name: "mail", Teller: s}}, Outbox: m})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if err := d.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if want := []string{"a=delivered", "b=rejected", "c=refused"}; !slices.Equal(m.told, want) {
			t.Errorf("told %q, want %q", m.told, want)
		}
		if len(s.at) != 5 || s.at[1].Sub(s.at[0]) < 800*time.Millisecond || s.at[2].Sub(s.at[1]) < 1600*time.Millisecond {
			t.Errorf("tried at %v", s.at)
		}
	})
}
