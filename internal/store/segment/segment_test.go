package segment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/batch"
	"serin.dev/serin/internal/tenant"
)

var ctx = context.Background()

// open opens a new store. Its Arrow memory is not counted: the decoder of
// differences of Arrow v17 leaves some to the garbage collector.
func open(t testing.TB) *Store {
	t.Helper()
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func write(t testing.TB, s *Store, from, to uint64, bs ...*batch.Batch) []string {
	t.Helper()
	paths, err := s.Write(ctx, from, to, bs, nil)
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// rowText writes all columns of a row, for comparisons.
func rowText(b *batch.Batch, r int) string {
	var sb strings.Builder
	for c := batch.Column(0); c < batch.Position; c++ {
		fmt.Fprintf(&sb, "%q ", b.Text(c, r))
	}
	v, ok := b.Value(r)
	fmt.Fprint(&sb, b.Position(r), b.Ordinal(r), b.Seq(r), b.Index(r), b.Time(r), b.Received(r), v, ok)
	return sb.String()
}

// replayed returns the rows of an app as Replay gives them, and for each call
// its position and ordinal.
func replayed(t testing.TB, s *Store, id tenant.ID, app string) (rows []string, order [][2]uint64) {
	t.Helper()
	err := s.Replay(ctx, id, app, func(b *batch.Batch, lo, hi int) error {
		order = append(order, [2]uint64{b.Position(lo), uint64(b.Ordinal(lo))})
		for r := lo; r < hi; r++ {
			rows = append(rows, rowText(b, r))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows, order
}

// beat is a batch of one row.
func beat(t testing.TB, id, app string, position uint64) *batch.Batch {
	p := partition(t, id, app, "1")
	b := batch.New(p)
	b.Append(position, 0, &event.Beacon{App: app, Release: "1", Session: "session-1", Received: int64(position)})
	return b
}

func TestRealisticRoundTrip(t *testing.T) {
	s := open(t)
	r := rand.New(rand.NewPCG(1, 2))
	p := partition(t, "shop", "web", "2.4.1")
	pos := uint64(0)
	b := corpus(r, p, 100_000, &pos)
	path := write(t, s, 1, pos, b)[0]
	rows, _ := replayed(t, s, p.Tenant, "web")
	if len(rows) != b.Len() {
		t.Fatalf("%d rows, want %d", len(rows), b.Len())
	}
	for i := range rows {
		if want := rowText(b, i); rows[i] != want {
			t.Fatalf("row %d: %s\nwant %s", i, rows[i], want)
		}
	}
	total, err := s.Total()
	if err != nil {
		t.Fatal(err)
	}
	found, err := s.Files(p.Tenant, "web")
	if err != nil || !reflect.DeepEqual(found, []Info{{path, 1, pos, int64(b.Len()), total.Bytes}}) || total.Rows != int64(b.Len()) || total.Segments != 1 {
		t.Fatalf("%+v, %+v, %v", found, total, err)
	}
	perRow := float64(total.Bytes) / float64(total.Rows)
	t.Logf("%.2f bytes/row", perRow)
	if perRow > 8 { // 6.4 when written; a dictionary that fell back would show
		t.Errorf("%.2f bytes/row", perRow)
	}
}

// Releases come mixed within a message, and segments one after the other; the
// texts are long and unique, so that dictionaries are larger than the 1 MiB at which Arrow would
// give them up by default.
func TestReplayIsInOrder(t *testing.T) {
	s := open(t)
	r := rand.New(rand.NewPCG(3, 4))
	id := mustID(t, "shop")
	var wantRows []string
	var wantOrder [][2]uint64
	for from := uint64(1); from < 40; from += 10 {
		bs := map[string]*batch.Batch{}
		for pos := from; pos < from+10; pos++ {
			for ordinal := range r.IntN(20) {
				release := pick(r, "1", "2", "3")
				if bs[release] == nil {
					bs[release] = batch.New(partition(t, "shop", "web", release))
				}
				b := bs[release]
				bc := realistic(r, b.Partition, fmt.Sprintf("session-%d", r.IntN(99)), 1, int64(pos))
				bc.Events[0].Message = strings.Repeat(fmt.Sprint(r.Uint64()), 50)
				bc.Events[0].Stack = strings.Repeat(fmt.Sprint(r.Uint64()), 2000)
				lo := b.Len()
				b.Append(pos, ordinal, bc)
				wantOrder = append(wantOrder, [2]uint64{pos, uint64(ordinal)})
				for i := lo; i < b.Len(); i++ {
					wantRows = append(wantRows, rowText(b, i))
				}
			}
		}
		other := beat(t, "shop", "ios", from)
		write(t, s, from, from+9, bs["3"], other, bs["1"], bs["2"], batch.New(other.Partition))
	}
	rows, order := replayed(t, s, id, "web")
	if !reflect.DeepEqual(order, wantOrder) || !reflect.DeepEqual(rows, wantRows) {
		t.Fatalf("%d rows in order %v\nwant %d in %v", len(rows), order, len(wantRows), wantOrder)
	}
	if rows, _ := replayed(t, s, id, "ios"); len(rows) != 4 {
		t.Errorf("%d rows of the other app", len(rows))
	}
	if rows, _ := replayed(t, s, mustID(t, "nobody"), "web"); len(rows) != 0 {
		t.Errorf("%d rows of nobody", len(rows))
	}
	ids, err := s.Tenants()
	if err != nil || !slices.Equal(ids, []tenant.ID{id}) {
		t.Errorf("tenants %v, %v", ids, err)
	}
	if apps, err := s.Apps(id); err != nil || !slices.Equal(apps, []string{"ios", "web"}) {
		t.Errorf("apps %v, %v", apps, err)
	}
}

func TestReplayEnds(t *testing.T) {
	s := open(t)
	write(t, s, 1, 1, beat(t, "a", "w", 1))
	write(t, s, 2, 2, beat(t, "a", "w", 2))
	want, calls := errors.New("enough"), 0
	err := s.Replay(ctx, mustID(t, "a"), "w", func(*batch.Batch, int, int) error { calls++; return want })
	if err != want || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	err = s.Replay(ended, mustID(t, "a"), "w", func(*batch.Batch, int, int) error { return nil })
	if !errors.Is(err, context.Canceled) || errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
	if _, err := s.Write(ended, 3, 3, []*batch.Batch{beat(t, "a", "w", 3)}, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestWriteAgainReplaces(t *testing.T) {
	s := open(t)
	path := write(t, s, 1, 5, beat(t, "a", "w", 2))
	before, _ := os.ReadFile(path[0])
	if again := write(t, s, 1, 5, beat(t, "a", "w", 2)); !slices.Equal(again, path) {
		t.Fatalf("%v, want %v", again, path)
	}
	after, _ := os.ReadFile(path[0])
	if !bytes.Equal(before, after) {
		t.Error("the same rows are other bytes")
	}
	write(t, s, 1, 5, beat(t, "a", "w", 4))
	if _, order := replayed(t, s, mustID(t, "a"), "w"); !reflect.DeepEqual(order, [][2]uint64{{4, 0}}) {
		t.Error(order)
	}
}

func TestWriteRefuses(t *testing.T) {
	twice := beat(t, "a", "w", 1)
	for name, bs := range map[string][]*batch.Batch{
		"position below":  {beat(t, "a", "w", 0)},
		"position above":  {beat(t, "a", "w", 6)},
		"beacon twice":    {twice, twice},
		"batch of nobody": {func() *batch.Batch { b := beat(t, "a", "w", 1); b.Tenant = tenant.ID{}; return b }()},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			if paths, err := s.Write(ctx, 1, 5, bs, nil); err == nil {
				t.Fatal(paths)
			}
			if left, _ := filepath.Glob(filepath.Join(s.dir, "*", "*", "*")); len(left) != 0 {
				t.Fatal(left)
			}
		})
	}
	if _, err := open(t).Write(ctx, 2, 1, nil, nil); err == nil {
		t.Error("positions 2 to 1")
	}
}

func TestOpenRemovesWhatACrashLeft(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data[1]*")
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	good := write(t, s, 1, 1, beat(t, "a", "w", 1))[0]
	left := filepath.Join(filepath.Dir(good), "123"+tempSuffix)
	if err := os.WriteFile(left, []byte("PAR1"), 0o644); err != nil {
		t.Fatal(err)
	}
	if found, err := s.Files(mustID(t, "a"), "w"); err != nil || len(found) != 1 {
		t.Errorf("%v, %v", found, err)
	}
	if s, err = Open(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", left, err)
	}
	if rows, _ := replayed(t, s, mustID(t, "a"), "w"); len(rows) != 1 {
		t.Errorf("%d rows", len(rows))
	}
}

func TestDeleteAfter(t *testing.T) {
	s := open(t)
	for from := uint64(1); from < 40; from += 10 {
		write(t, s, from, from+9, beat(t, "a", "w", from), beat(t, "b", "w", from), beat(t, "b", "x", from))
	}
	if n, err := s.DeleteAfter(25); err == nil || n != 0 || !strings.Contains(err.Error(), fileName(21, 30)) {
		t.Fatalf("%d, %v", n, err)
	}
	for _, step := range []struct{ position, removed uint64 }{{40, 0}, {30, 3}, {10, 6}, {10, 0}, {0, 3}} {
		if n, err := s.DeleteAfter(step.position); err != nil || uint64(n) != step.removed {
			t.Fatalf("after %d: %d, %v; want %d", step.position, n, err, step.removed)
		}
	}
	if ids, err := s.Tenants(); err != nil || len(ids) != 0 {
		t.Errorf("%v, %v", ids, err)
	}
}

func TestOverlapIsCorrupt(t *testing.T) {
	s := open(t)
	write(t, s, 1, 5, beat(t, "a", "w", 1))
	write(t, s, 5, 9, beat(t, "a", "w", 6))
	err := s.Replay(ctx, mustID(t, "a"), "w", func(*batch.Batch, int, int) error { t.Error("called"); return nil })
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), fileName(5, 9)) {
		t.Error(err)
	}
}

func TestOddApps(t *testing.T) {
	s := open(t)
	id := mustID(t, "a")
	apps := []string{"", ".", "..", "../x", "../../etc/passwd", "a/b", "a%2Fb", "%", "%7E", "~", ".hidden", "Größe 日本", "a\x00b",
		strings.Repeat("/", 128), strings.Repeat("日", 42), strings.Repeat("日", 41) + "x", "x" + tempSuffix, "web"}
	for _, app := range apps {
		path := write(t, s, 1, 1, beat(t, "a", app, 1))[0]
		if rel, err := filepath.Rel(s.dir, path); err != nil || strings.Count(rel, "/") != 2 || !strings.HasPrefix(rel, "a/") {
			t.Errorf("app %q is at %s", app, path)
		}
	}
	for _, app := range apps {
		if rows, _ := replayed(t, s, id, app); len(rows) != 1 || !strings.Contains(rows[0], fmt.Sprintf("%q", app)) {
			t.Errorf("app %q: %v", app, rows)
		}
	}
	// Parquet's metadata is UTF-8, and so are the apps that are admitted.
	if _, err := s.Write(ctx, 1, 1, []*batch.Batch{beat(t, "a", "\xff", 1)}, nil); err == nil {
		t.Error("an app that is not UTF-8")
	} else if err := os.Remove(filepath.Join(s.dir, "a", "%FF")); err != nil {
		t.Error(err) // nothing else was left
	}
	slices.Sort(apps)
	if got, err := s.Apps(id); err != nil || !slices.Equal(got, apps) {
		t.Errorf("%q, %v", got, err)
	}
	if err := s.Replay(ctx, tenant.ID{}, "a", nil); err == nil {
		t.Error("replay of no tenant")
	}
}

// A file that lies where another should must not show a tenant's rows to
// another.
func TestMovedFileIsCorrupt(t *testing.T) {
	s := open(t)
	from := write(t, s, 1, 1, beat(t, "a", "w", 1))[0]
	to := write(t, s, 1, 1, beat(t, "b", "w", 1))[0]
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
	err := s.Replay(ctx, mustID(t, "b"), "w", func(*batch.Batch, int, int) error { t.Error("called"); return nil })
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), to) {
		t.Error(err)
	}
}

func TestEveryFlippedByteIsCorrupt(t *testing.T) {
	s := open(t)
	id := mustID(t, "a")
	path := write(t, s, 1, 1, beat(t, "a", "w", 1))[0]
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, bad []byte) {
		t.Helper()
		if err := os.WriteFile(path, bad, 0o644); err != nil {
			t.Fatal(err)
		}
		err := s.Replay(ctx, id, "w", func(*batch.Batch, int, int) error { t.Error("called"); return nil })
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), path) {
			t.Fatalf("%s: %v", what, err)
		}
	}
	_, start, err := func() ([]byte, int64, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, 0, err
		}
		defer f.Close()
		return footer(f)
	}()
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		check(fmt.Sprintf("byte %d", i), bad)
		if int64(i) < start {
			continue
		}
		if _, err := s.Files(id, "w"); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("byte %d of the footer: Files: %v", i, err)
		}
	}
	for n := 0; n < len(good); n += 1 + n/50 {
		check(fmt.Sprintf("first %d bytes", n), good[:n])
	}
	check("one byte more", append(bytes.Clone(good), 0))
	check("zeros", make([]byte, len(good)))
}

// A client's texts stand in the footer as statistics, and as the app.
func TestForgedChecksumMark(t *testing.T) {
	s := open(t)
	app := string(byte(len(footerSumKey))) + footerSumKey + "\x18\x0812345678"
	b := batch.New(partition(t, "a", app, "1"))
	b.Append(1, 0, &event.Beacon{App: app, Release: "1", Session: app, User: app, Ctx: event.Context{Page: app, OS: app}})
	write(t, s, 1, 1, b)
	if rows, _ := replayed(t, s, mustID(t, "a"), app); len(rows) != 1 {
		t.Error(rows)
	}
}

// Data that a right checksum covers but that is no Parquet must not panic.
func TestSealedGarbageDoesNotPanic(t *testing.T) {
	s := open(t)
	path := write(t, s, 1, 1, beat(t, "a", "w", 1))[0]
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	foot, start, err := footer(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{dataSumKey, footerSumKey} {
		at, err := sumAt(foot, key)
		if err != nil {
			t.Fatal(err)
		}
		copy(foot[at:], blank)
	}
	failed := 0
	for i := 4; i < int(start); i += 5 {
		bad := append(bytes.Clone(good[:start]), foot...)
		bad[i] ^= 0x10
		if _, err := f.WriteAt(bad, 0); err != nil {
			t.Fatal(err)
		}
		if err := seal(f); err != nil {
			t.Fatal(err)
		}
		err := s.Replay(ctx, mustID(t, "a"), "w", func(*batch.Batch, int, int) error { return nil })
		if err != nil {
			failed++
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("byte %d: %v", i, err)
			}
		}
	}
	t.Logf("%d of %d changes were noticed without the checksums", failed, (int(start)-4+4)/5)
}

func BenchmarkWrite(b *testing.B) {
	s, pos := open(b), uint64(0)
	all := corpus(rand.New(rand.NewPCG(1, 2)), partition(b, "shop", "web", "1"), 50_000, &pos)
	for b.Loop() {
		write(b, s, 1, pos, all)
	}
	b.ReportMetric(float64(all.Len())*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	files, err := s.Files(all.Tenant, "web")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(files[0].Bytes)/float64(files[0].Rows), "bytes/row")
}

func BenchmarkReplay(b *testing.B) {
	s, pos := open(b), uint64(0)
	all := corpus(rand.New(rand.NewPCG(1, 2)), partition(b, "shop", "web", "1"), 50_000, &pos)
	write(b, s, 1, pos, all)
	rows := 0
	for b.Loop() {
		if err := s.Replay(ctx, all.Tenant, "web", func(_ *batch.Batch, lo, hi int) error { rows += hi - lo; return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
}
