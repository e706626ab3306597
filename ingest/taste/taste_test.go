package taste

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestMain is the child where the variable says so: the test binary itself is
// run again, so that tasters are real processes.
func TestMain(m *testing.M) {
	if os.Getenv("SERIN_TASTER") == "" {
		os.Exit(m.Run())
	}
	limit, err := time.ParseDuration(os.Getenv("SERIN_TASTER"))
	if err != nil {
		panic(err)
	}
	err = Serve(Limits{Memory: 512 << 20, Stack: 8 << 20, Time: limit}, os.Stdin, os.Stdout, func(q, a []byte) []byte {
		switch s := string(bytes.Trim(q, `"`)); {
		case strings.HasPrefix(s, "stack"):
			return fmt.Append(a, deeper(1))
		case strings.HasPrefix(s, "memory"):
			var all [][]byte
			for range 1 << 16 {
				all = append(all, bytes.Repeat([]byte{1}, 1<<20))
			}
			return fmt.Append(a, len(all))
		case strings.HasPrefix(s, "loop"):
			for n := 0; ; n++ {
				if n < 0 {
					n = 0
				}
			}
		case strings.HasPrefix(s, "exit"):
			os.Exit(7)
		case strings.HasPrefix(s, "garbage"):
			fmt.Println("this is no answer, however long one looks at it")
		case strings.HasPrefix(s, "panic"):
			panic("poison")
		}
		return append(append(a, "ok "...), q...)
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func deeper(n int) int {
	var pad [1024]byte
	pad[n%len(pad)] = byte(n)
	return deeper(n+1) + int(pad[(n+1)%len(pad)])
}

// slower makes room for the race detector on a busy machine.
const slower = 4

// command runs the test binary as a taster that ends itself after a time.
func command(limit string) func() *exec.Cmd {
	return func() *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "SERIN_TASTER="+limit)
		return cmd
	}
}

func pool(t testing.TB, o Options) *Pool {
	t.Helper()
	if o.Command == nil {
		o.Command = command("1m")
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	p := New(o)
	t.Cleanup(p.Close)
	return p
}

func taste(p *Pool, tenant, body string) (string, error) {
	a, err := p.Taste(context.Background(), Sample{Tenant: tenant, Key: "pk_" + tenant, Protocol: "test", Body: []byte(body)}, []byte(body))
	return string(a), err
}

// TestPoisonKillsOnlyItsTaster feeds each kind of poison, with good bodies of
// the same and of another tenant beside it.
func TestPoisonKillsOnlyItsTaster(t *testing.T) {
	for _, poison := range []string{"stack", "memory", "loop", "exit", "garbage", "panic"} {
		t.Run(poison, func(t *testing.T) {
			p := pool(t, Options{Tasters: 4, Timeout: 800 * time.Millisecond * slower})
			var wg sync.WaitGroup
			for _, tenant := range []string{"bad", "good"} {
				wg.Go(func() {
					for i := range 30 {
						body := fmt.Sprintf("[%s,%d]", strings.Repeat("1,", i), i)
						if got, err := taste(p, tenant, body); err != nil && !errors.Is(err, ErrBusy) || err == nil && got != "ok "+body {
							t.Errorf("%s: a good body got %q, %v", tenant, got, err)
						} else if err != nil && tenant == "good" {
							t.Errorf("the good tenant waited for the bad one: %v", err)
						}
					}
				})
			}
			if _, err := taste(p, "bad", `"`+poison+`"`); !errors.Is(err, ErrPoison) {
				t.Errorf("poison got %v", err)
			}
			wg.Wait()
			if _, err := taste(p, "bad", `"`+poison+`, with other words"`); !errors.Is(err, ErrQuarantined) {
				t.Errorf("poison of the same form got %v", err)
			}
			list := p.Quarantined("bad")
			if len(list) != 1 || string(list[0].Body) != `"`+poison+`"` || list[0].Cause == "" {
				t.Fatalf("quarantine %+v", list)
			}
			if others := p.Quarantined("good"); len(others) != 0 {
				t.Errorf("another tenant sees %+v", others)
			}
			if p.Release("good", list[0].Fingerprint) || !p.Release("bad", list[0].Fingerprint) || p.Release("bad", list[0].Fingerprint) {
				t.Error("release is not the tenant's own, once")
			}
			if got, err := taste(p, "bad", `"released"`); err != nil || got != `ok "released"` {
				t.Errorf("the form after its release: %q, %v", got, err)
			}
		})
	}
}

// TestAnOrphanEndsItself has a child whose parent does not watch the time.
func TestAnOrphanEndsItself(t *testing.T) {
	p := pool(t, Options{Timeout: time.Minute, Command: command("1s")})
	if _, err := taste(p, "a", `"loop"`); !errors.Is(err, ErrPoison) {
		t.Errorf("got %v", err)
	}
	if list := p.Quarantined("a"); len(list) != 1 || list[0].Cause != "exit" {
		t.Errorf("%+v", list)
	}
}

func sample(key, network, body string) *Sample {
	return &Sample{Tenant: "a", Key: key, Network: network, Protocol: "p", Body: []byte(body)}
}

func TestQuarantineIsOfAFormForATime(t *testing.T) {
	now := time.Unix(1e9, 0)
	j := newJail(time.Minute, func() time.Time { return now })
	j.put(sample("k", "n", `{"a":1}`), "exit")
	for range 1000 {
		if err := j.check(sample("k", "n", `{"a":2}`)); !errors.Is(err, ErrQuarantined) {
			t.Fatal(err)
		}
	}
	if err := j.check(sample("k", "n", `{"a":[1]}`)); err != nil {
		t.Errorf("another form of a key with many quarantined bodies got %v", err)
	}
	if err := j.check(sample("other", "n", `{"a":1}`)); err != nil {
		t.Errorf("another key got %v", err)
	}
	now = now.Add(30 * time.Second)
	if err := j.check(sample("k", "n", `{"a":1}`)); !errors.Is(err, ErrQuarantined) {
		t.Errorf("the fingerprint got %v", err)
	}
	now = now.Add(time.Minute)
	if err := j.check(sample("k", "n", `{"a":1}`)); err != nil {
		t.Errorf("the fingerprint after its time got %v", err)
	}
}

// TestOneNetworkBlocksAFormForItselfAlone: who knows a public key and a body
// that kills tasters must not have the tenant's own clients refused.
func TestOneNetworkBlocksAFormForItselfAlone(t *testing.T) {
	j := newJail(time.Minute, time.Now)
	for _, c := range []struct {
		network string // that sends one more
		refused []string
		free    []string
	}{
		{"n1", []string{"n1"}, []string{"n2", "n3", "n4", ""}},
		{"n1", []string{"n1"}, []string{"n2", "n3", "n4", ""}},
		{"n2", []string{"n1", "n2"}, []string{"n3", "n4", ""}},
		{"n3", []string{"n1", "n2", "n3", "n4", ""}, nil},
		{"n4", []string{"n1", "n5"}, nil},
	} {
		j.put(sample("k", c.network, `{"a":1}`), "exit")
		for _, n := range c.refused {
			if err := j.check(sample("k", n, `{"a":1}`)); !errors.Is(err, ErrQuarantined) {
				t.Errorf("after %s: %q got %v", c.network, n, err)
			}
		}
		for _, n := range c.free {
			if err := j.check(sample("k", n, `{"a":1}`)); err != nil {
				t.Errorf("after %s: %q got %v", c.network, n, err)
			}
		}
	}
	if len(j.until) != 1 || j.keys["k"] != 1 {
		t.Errorf("%d fingerprints, %d of the key", len(j.until), j.keys["k"])
	}
}

// TestTasterThatCannotStart has children that end before they read anything: no
// body is blamed for that, and bodies are tasted again when it is over.
func TestTasterThatCannotStart(t *testing.T) {
	var broken atomic.Bool
	broken.Store(true)
	p := pool(t, Options{Tasters: 1, PerTenant: 1, Command: func() *exec.Cmd {
		if broken.Load() {
			return exec.Command("false")
		}
		return command("1m")()
	}})
	for i := range 4 {
		if got, err := taste(p, "a", "good"); err == nil || errors.Is(err, ErrPoison) || errors.Is(err, ErrQuarantined) {
			t.Errorf("body %d: %q, %v", i, got, err)
		}
	}
	if list := p.Quarantined("a"); len(list) != 0 {
		t.Errorf("in quarantine: %+v", list)
	}
	broken.Store(false)
	if got, err := taste(p, "a", "good"); err != nil || got != "ok good" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestTheRingIsBounded(t *testing.T) {
	j := newJail(time.Minute, time.Now)
	for i := range 3 * maxEntries {
		body := append([]byte(strings.Repeat("[", i+1)), make([]byte, maxHeld/16)...)
		j.put(&Sample{Tenant: "a", Body: body}, "exit")
		if len(j.ring) > maxEntries || j.held > maxHeld {
			t.Fatalf("%d entries of %d bytes", len(j.ring), j.held)
		}
	}
}

// TestTheNamesAreBounded has more forms kill tasters than are refused at once: the
// one that is the oldest is tasted again, and the newest is refused.
func TestTheNamesAreBounded(t *testing.T) {
	now := time.Unix(1e9, 0)
	j := newJail(time.Hour, func() time.Time { return now })
	for i := range maxNames + 1 {
		s := sample("k", "n", strings.NewReplacer("0", "[", "1", "{").Replace(fmt.Sprintf("%013b", i)))
		j.put(s, "exit")
		if err := j.check(s); !errors.Is(err, ErrQuarantined) {
			t.Fatalf("form %d got %v", i, err)
		}
		now = now.Add(time.Millisecond)
	}
	if len(j.until) != maxNames || j.keys["k"] != maxNames {
		t.Errorf("%d forms, %d of the key", len(j.until), j.keys["k"])
	}
	if err := j.check(sample("k", "n", strings.Repeat("[", 13))); err != nil {
		t.Errorf("the oldest got %v", err)
	}
}

// TestATermBeginsAgain has a second network send a form that is in quarantine:
// it is refused to that one for as long as its entry says.
func TestATermBeginsAgain(t *testing.T) {
	now := time.Unix(1e9, 0)
	j := newJail(time.Minute, func() time.Time { return now })
	j.put(sample("k", "n1", "[]"), "exit")
	now = now.Add(50 * time.Second)
	j.put(sample("k", "n2", "[]"), "exit")
	now = now.Add(50 * time.Second)
	if err := j.check(sample("k", "n2", "[]")); !errors.Is(err, ErrQuarantined) {
		t.Errorf("got %v before %s", err, j.ring[1].Until)
	}
}

// TestReleaseWithoutABody has the ring forget the body of a form that is still
// refused: it can be released, by its tenant.
func TestReleaseWithoutABody(t *testing.T) {
	p := pool(t, Options{})
	for i := range maxEntries + 1 {
		p.jail.put(sample("k", "n", strings.Repeat("[", i)), "exit")
	}
	fingerprint := fmt.Sprintf("%016x", Fingerprint("p", "k", nil))
	if p.Release("b", fingerprint) {
		t.Error("released by another tenant")
	}
	if !p.Release("a", fingerprint) {
		t.Error("not released")
	}
	if err := p.jail.check(sample("k", "n", "")); err != nil {
		t.Errorf("after its release: %v", err)
	}
}

func TestFingerprint(t *testing.T) {
	base := `{"a":1,"b":"x","c":[1,2]}`
	for _, c := range []struct {
		body string
		same bool
	}{
		{`{"a":22,"b":"other \"words\"","c":[3,4]}`, true},
		{` { "a" : 1 , "b":"x", "c":[1,2]}`, true},
		{`{"a":1,"b":"x","c":[1,2,3,[4]]}`, false},
		{`{"a":[1],"b":"x","c":[1,2]}`, false},
		{`{"a":{{{{{`, false},
	} {
		if got := Fingerprint("p", "k", []byte(c.body)) == Fingerprint("p", "k", []byte(base)); got != c.same {
			t.Errorf("%s: same %v", c.body, got)
		}
	}
	if Fingerprint("p", "k", nil) == Fingerprint("q", "k", nil) || Fingerprint("p", "k", nil) == Fingerprint("p", "l", nil) {
		t.Error("protocol and key are not part of it")
	}
}

// TestShuffle has the tenants spread over the tasters.
func TestShuffle(t *testing.T) {
	p := New(Options{Tasters: 8})
	defer p.Close()
	uses := map[int]int{}
	same := 0
	first := p.Of("tenant-0")
	for i := range 400 {
		of := p.Of(fmt.Sprintf("tenant-%d", i))
		if len(of) != 2 || of[0] == of[1] {
			t.Fatal(of)
		}
		uses[of[0]]++
		uses[of[1]]++
		if i > 0 && (of[0] == first[0] && of[1] == first[1] || of[0] == first[1] && of[1] == first[0]) {
			same++
		}
	}
	for n, c := range uses {
		if c < 60 || c > 140 {
			t.Errorf("taster %d has %d of 800 places", n, c)
		}
	}
	if same > 40 { // 1 of 28 pairs: 14 expected
		t.Errorf("%d of 399 tenants share both of their tasters with one", same)
	}
}

// TestPoisonAmongMany has one poison cross the pipe with many good bodies: each
// of those is answered, and only the poison is quarantined.
func TestPoisonAmongMany(t *testing.T) {
	p := pool(t, Options{Tasters: 1, PerTenant: 1, Timeout: 20 * time.Second})
	if _, err := taste(p, "a", "first"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	poisoned := make(chan error, 1)
	for i := range 300 {
		if i == 100 {
			wg.Go(func() {
				_, err := taste(p, "a", `"exit"`)
				poisoned <- err
			})
		}
		wg.Go(func() {
			body := fmt.Sprintf("[%d,%s]", i, strings.Repeat("x", i*i%9000))
			if got, err := taste(p, "a", body); err != nil || got != "ok "+body {
				t.Errorf("%d: %.30q, %v", i, got, err)
			}
		})
	}
	wg.Wait()
	if err := <-poisoned; !errors.Is(err, ErrPoison) {
		t.Errorf("the poison got %v", err)
	}
	if list := p.Quarantined("a"); len(list) != 1 || string(list[0].Body) != `"exit"` {
		t.Errorf("quarantine %+v", list)
	}
}

// TestLargeBodies crosses more than a pipe holds, both ways.
func TestLargeBodies(t *testing.T) {
	p := pool(t, Options{Tasters: 1, PerTenant: 1, Timeout: 20 * time.Second})
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			body := strings.Repeat(string(rune('a'+i%26)), 1+i*i*300)
			if got, err := taste(p, "a", body); err != nil || got != "ok "+body {
				t.Errorf("%d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	wg.Wait()
}

func BenchmarkTaste(b *testing.B) {
	p := pool(b, Options{})
	body := strings.Repeat("x", 2000)
	if _, err := taste(p, "a", body); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := taste(p, "a", body); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTasteTogether has 64 clients at once.
func BenchmarkTasteTogether(b *testing.B) {
	p := pool(b, Options{})
	body := strings.Repeat("x", 2000)
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := taste(p, "a", body); err != nil {
				b.Error(err)
			}
		}
	})
}
