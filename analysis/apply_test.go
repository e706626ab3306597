package analysis

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/slo"
	"serin.dev/serin/internal/store/journal"
)

// keeping lets a house keep documents of a kind goal: NAME TARGET makes an
// objective of each, what follows " #" is a remark, and no two of them may have one target.
func keeping(o *Options) {
	goal := func(text string) (string, float64, error) {
		text, _, _ = strings.Cut(text, " #")
		name, target, _ := strings.Cut(text, " ")
		x, err := strconv.ParseFloat(target, 64)
		return name, x, err
	}
	o.Documents = map[string]func([]byte) (string, error){"goal": func(text []byte) (string, error) {
		name, _, err := goal(string(text))
		return name, err
	}}
	o.ObjectKinds = []string{"goal"}
	o.ParseObjects = func(docs []Document) (all []slo.Objective, notes []string, err error) {
		seen := map[float64]string{}
		for _, d := range docs {
			one := shopObjective()
			if one.Name, one.Target, err = goal(d.Text); err != nil {
				return nil, nil, err
			}
			if other := seen[one.Target]; other != "" {
				return nil, nil, fmt.Errorf("goal/%s: %v: want another than %s", one.Name, one.Target, other)
			}
			seen[one.Target] = one.Name
			all = append(all, one)
		}
		return all, []string{"looked at"}, nil
	}
}

func (h *house) targets() map[string]float64 {
	h.e.mu.Lock()
	defer h.e.mu.Unlock()
	all := map[string]float64{}
	for k, b := range h.e.fold.Books {
		all[k.Name] = b.Objective.Target
	}
	return all
}

func (h *house) recorded() uint64 {
	_, last, err := h.control.Bounds(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return last
}

// TestApplyIsAllOrNothing gives one apply each fault that there is, beside what is
// good, and looks that nothing of it is recorded.
func TestApplyIsAllOrNothing(t *testing.T) {
	h := newHouse(t)
	h.stop()
	h.options = keeping
	h.start()
	good := []Edit{{"goal", "a", "a 0.9", 0}, {"goal", "b", "b 0.95", 0}}
	r := busy(t)
	before := h.recorded()
	for name, c := range map[string]struct {
		edits    []Edit
		rollouts []canary.Rollout
		class    error
		want     string
	}{
		"a text that is none":            {append(good[:2:2], Edit{"goal", "c", "c much", 0}), nil, canary.ErrInvalid, `"much"`},
		"a name that the text has not":   {append(good[:2:2], Edit{"goal", "c", "d 0.5", 0}), nil, canary.ErrInvalid, `want "d", which the text has`},
		"a kind that is not kept":        {append(good[:2:2], Edit{"song", "c", "c 0.5", 0}), nil, canary.ErrInvalid, `kind: "song": want one of [goal]`},
		"one that does not fit the rest": {append(good[:2:2], Edit{"goal", "c", "c 0.9", 0}), nil, canary.ErrInvalid, "goal/c: 0.9: want another than a"},
		"a change that was not seen":     {append(good[:2:2], Edit{"goal", "c", "c 0.5", 3}), nil, ErrBasis, "want a look"},
		"one twice":                      {append(good[:2:2], good[0]), nil, canary.ErrInvalid, "want each once"},
		"a rollout that is none":         {good, []canary.Rollout{{ID: "x"}}, canary.ErrInvalid, "rollout x: "},
		"a rollout twice":                {good, []canary.Rollout{r, r}, ErrExists, "rollout r: "},
		"a policy that is not there":     {good, []canary.Rollout{{ID: "x", Policy: canary.Policy{Name: "none"}}}, canary.ErrInvalid, `policy.name: "none"`},
		"a budget that is nobody's":      {good, []canary.Rollout{guarded("c")}, canary.ErrInvalid, `rollout r: invalid: policy.slos: "c": want one of a, b`},
		"nothing":                        {nil, nil, canary.ErrInvalid, "want at least one"},
		"too much at once":               {manyEdits(33, maxDocument-20), nil, canary.ErrInvalid, "bytes as recorded, with what was before: want at most"},
		"too many":                       {manyEdits(maxDocuments+1, 0), nil, canary.ErrInvalid, "501 documents: want at most 500"},
	} {
		if _, err := h.e.Apply(t.Context(), owner(t), "ci", c.edits, c.rollouts, false); !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if n := h.recorded(); n != before {
			t.Fatalf("%s: %d records, %d before", name, n, before)
		}
	}
	checked, err := h.e.Apply(t.Context(), owner(t), "ci", good, []canary.Rollout{r}, true)
	if err != nil || len(checked.Changes) != 2 || len(checked.Notes) != 1 || h.recorded() != before {
		t.Errorf("a check: %+v, %v", checked, err)
	}
	done, err := h.e.Apply(t.Context(), owner(t), "ci", good, []canary.Rollout{guarded("b")}, false)
	if err != nil || len(done.Changes) != 2 || done.Changes[1].Number != 2 || done.Changes[0].Last != 2 || len(done.Rollouts) != 1 {
		t.Fatalf("%+v, %v", done, err)
	}
	if got := h.targets(); got["a"] != 0.9 || got["b"] != 0.95 || len(h.e.List(owner(t))) != 1 {
		t.Errorf("%v", got)
	}
	if _, err := h.e.Back(t.Context(), owner(t), "boss", 1); err == nil || !strings.Contains(err.Error(), "want 0 or 2: changes 1 to 2 were made together") {
		t.Error(err)
	}
}

// guarded is a rollout whose stages wait for an objective's budget.
func guarded(objective string) canary.Rollout {
	r := flagRollout()
	r.Policy.SLOs = []string{objective}
	return r
}

func manyEdits(n, size int) (all []Edit) {
	for i := range n {
		name := fmt.Sprintf("g%d", i)
		all = append(all, Edit{"goal", name, fmt.Sprintf("%s 0.%d1%s", name, 1000+i, strings.Repeat("0", size)), 0})
	}
	return all
}

// TestApplyIsBoundedAsRecorded looks for the most that one apply takes, of texts that
// are six times as long in JSON: a check says so to the byte, what it lets through is
// recorded, and of the rest nothing is.
func TestApplyIsBoundedAsRecorded(t *testing.T) {
	h := newHouse(t)
	h.stop()
	h.options = keeping
	h.start()
	apply := func(fill int, check bool) error {
		edits := manyEdits(6, 0)
		for i := range edits {
			n := min(fill, 250<<10)
			fill -= n
			edits[i].Text += " #" + strings.Repeat("<", n)
		}
		_, err := h.e.Apply(t.Context(), owner(t), "ci", edits, nil, check)
		return err
	}
	before := h.recorded()
	most := sort.Search(6*250<<10, func(fill int) bool { return apply(fill, true) != nil }) - 1
	if most < 1<<20 || 6*most > journal.MaxMessageBytes {
		t.Fatalf("%d bytes that JSON makes six times as long are taken at most, of a record of %d", most, journal.MaxMessageBytes)
	}
	for _, check := range []bool{true, false} {
		if err := apply(most+1, check); !errors.Is(err, canary.ErrInvalid) || !strings.Contains(err.Error(), fmt.Sprintf("want at most %d at once", journal.MaxMessageBytes)) {
			t.Errorf("a byte more, check %v: %v", check, err)
		}
	}
	if n := h.recorded(); n != before {
		t.Fatalf("%d records, %d before", n, before)
	}
	if err := apply(most, false); err != nil {
		t.Errorf("what a check let through: %v", err)
	}
}

// TestBackIsBoundedBeforeItIsRead goes back over more than one record holds.
func TestBackIsBoundedBeforeItIsRead(t *testing.T) {
	h := newHouse(t)
	h.stop()
	h.options = keeping
	h.start()
	edits := manyEdits(33, maxDocument-20)
	for _, part := range [][]Edit{edits[:16], edits[16:]} {
		if _, err := h.e.Apply(t.Context(), owner(t), "ci", part, nil, false); err != nil {
			t.Fatal(err)
		}
	}
	before, reads := h.recorded(), 0
	h.e.mu.Lock()
	parse := h.e.o.ParseObjects
	h.e.o.ParseObjects = func(docs []Document) ([]slo.Objective, []string, error) { reads++; return parse(docs) }
	h.e.mu.Unlock()
	if _, err := h.e.Back(t.Context(), owner(t), "boss", 0); !errors.Is(err, canary.ErrInvalid) || !strings.Contains(err.Error(), "changes: more than ") || reads > 0 || h.recorded() != before {
		t.Errorf("%v, read %d times", err, reads)
	}
	if _, err := h.e.Back(t.Context(), owner(t), "boss", 16); err != nil || reads != 1 {
		t.Errorf("half of it: %v, read %d times", err, reads)
	}
}

// TestApplyOutlivesACrash loses the checkpoint: what was applied comes back in its
// order, and the start adds nothing to the log.
func TestApplyOutlivesACrash(t *testing.T) {
	h := newHouse(t)
	h.stop()
	h.options = keeping
	first := shopObjective()
	first.Name, first.Target = "server", 0.8
	h.slos = Objectives{"t": {first}}
	h.start()
	all := beacons(1, 300)
	put := func(edits ...Edit) {
		t.Helper()
		if _, err := h.e.Apply(t.Context(), owner(t), "ci", edits, nil, false); err != nil {
			t.Fatal(err)
		}
	}
	h.send(all[:100])
	h.follow()
	put(Edit{"goal", "a", "a 0.9", 0})
	h.send(all[100:200])
	h.follow()
	if _, err := h.e.Apply(t.Context(), owner(t), "ci", []Edit{{"goal", "a", "a 0.91", 1}, {"goal", "server", "server 0.7", 0}}, []canary.Rollout{busy(t)}, false); err != nil {
		t.Fatal(err)
	}
	h.send(all[200:])
	h.follow()
	h.stop()
	before, want := h.recorded(), map[string]float64{"a": 0.91, "server": 0.7}
	commands := func() (n int) {
		t.Helper()
		err := h.control.Scan(t.Context(), 1, h.recorded(), func(m journal.Message) error {
			r, err := ParseRecord(m.Data)
			if r.Type == TypeApply || r.Type == TypeObjectives {
				n++
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	made := commands()
	if err := os.Remove(filepath.Join(h.dir, "checkpoint")); err != nil {
		t.Fatal(err)
	}
	h.start()
	h.follow()
	if got := h.targets(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v after a crash, want %v", got, want)
	}
	if n := commands(); n != made || made != 3 {
		t.Errorf("%d commands, %d before the crash", n, made)
	}
	if n := len(h.e.Changes(owner(t))); n != 3 || h.recorded() < before {
		t.Errorf("%d changes", n)
	}
	// Another file of the server's counts at the next start, and no sooner than what
	// was applied.
	h.stop()
	other := first
	other.Name = "late"
	h.slos = Objectives{"t": {first, other}}
	if err := os.Remove(filepath.Join(h.dir, "checkpoint")); err != nil {
		t.Fatal(err)
	}
	h.start()
	h.follow()
	want["late"] = 0.8
	if got := h.targets(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v with another file, want %v", got, want)
	}
	h.stop()
	h.again(1)
}
