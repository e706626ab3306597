package batch

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/compute"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"serin.dev/serin/internal/event"
)

// row writes all of a row, for comparisons.
func row(b *Batch, r int) string {
	var texts []string
	for c := Column(0); c < dictColumns; c++ {
		texts = append(texts, b.Text(c, r))
	}
	v, ok := b.Value(r)
	return fmt.Sprintf("%q %d %d %d %d %d %d %v %v", texts, b.Position(r), b.Ordinal(r), b.Seq(r), b.Index(r), b.Time(r), b.Received(r), v, ok)
}

func checkSame(t *testing.T, got, want *Batch) {
	t.Helper()
	if got.Partition != want.Partition || got.Len() != want.Len() {
		t.Fatalf("%v with %d rows, want %v with %d", got.Partition, got.Len(), want.Partition, want.Len())
	}
	for r := range want.Len() {
		if g, w := row(got, r), row(want, r); g != w {
			t.Fatalf("row %d: %s\nwant %s", r, g, w)
		}
	}
}

// checked makes Arrow count its memory until the test ends.
func checked(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	old := memory.DefaultAllocator
	memory.DefaultAllocator = mem
	t.Cleanup(func() {
		memory.DefaultAllocator = old
		mem.AssertSize(t, 0)
	})
}

// fill appends random beacons of one partition.
func fill(t *testing.T, r *rand.Rand, beacons int) *Batch {
	p := Partition{mustID(t, "acme"), text(r), event.Release(text(r))}
	b := New(p)
	for n := range beacons {
		bc := random(r)
		bc.App, bc.Release = p.App, p.Release
		b.Append(uint64(5+n/3), n%3, bc)
	}
	return b
}

func TestSchemaIsInTheOrderOfTheColumns(t *testing.T) {
	want := map[Column]string{Tenant: "tenant", App: "app", Release: "release", Tenancy: "tenancy", Arms: "arms", SDK: "sdk",
		Platform: "platform", OS: "os", Browser: "browser", Device: "device", Network: "network", Country: "country",
		Page: "page", Env: "env", Kind: "kind", Name: "name", Unit: "unit", Attrs: "attrs", Message: "message", Stack: "stack",
		Session: "session", User: "user", Prefix: "prefix", Position: "position", Ordinal: "ordinal", Seq: "seq", Index: "index",
		Time: "time_ms", Received: "received_ms", Value: "value"}
	if len(want) != int(columns) || Schema.NumFields() != int(columns) {
		t.Fatalf("%d names and %d fields for %d columns", len(want), Schema.NumFields(), columns)
	}
	for c, name := range want {
		f := Schema.Field(int(c))
		if f.Name != name || f.Nullable != (c == Value) || (f.Type.ID() == arrow.DICTIONARY) != (c < dictColumns) {
			t.Errorf("column %d is %s, want %s", c, f, name)
		}
	}
	if v, _ := Schema.Metadata().GetValue("serin.schema"); v != fmt.Sprint(event.SchemaVersion) {
		t.Errorf("schema version %q", v)
	}
}

func TestAppendKeepsTheFields(t *testing.T) {
	p := Partition{mustID(t, "acme"), "web", "2.4.1"}
	b := New(p)
	bc := &event.Beacon{SDK: "sdk/1", App: "web", Release: "2.4.1", Tenancy: event.Shadow, Session: "s", User: "u", Seq: 7,
		Sent: 1, Received: 2, Arms: []event.Arm{{Change: "c", Variant: "v"}},
		Ctx: event.Context{Platform: "p", OS: "o", Browser: "b", Device: "d", Network: "n", Country: "DE", Page: "/", Env: "prod", Prefix: "x"},
		Events: []event.One{{Kind: event.Error, Name: "E", Time: 3, Value: 4.5, HasVal: true, Unit: "ms", Message: "m", Stack: "st",
			Attrs: []event.Attr{{Key: "k", Number: 1, Num: true}}}},
		Drops: []event.Dropped{{Cause: "vital/sampled", Count: 9}}}
	b.Append(11, 12, bc)
	b.Append(13, 0, &event.Beacon{App: "web", Release: "2.4.1", Session: "t", Received: 5})
	for r, want := range []string{
		`["acme" "web" "2.4.1" "shadow" "c=v" "sdk/1" "p" "o" "b" "d" "n" "DE" "/" "prod" "error" "E" "ms" "k=#1" "m" "st" "s" "u" "x"] 11 12 7 0 3 2 4.5 true`,
		`["acme" "web" "2.4.1" "shadow" "c=v" "sdk/1" "p" "o" "b" "d" "n" "DE" "/" "prod" "drop" "vital/sampled" "" "" "" "" "s" "u" "x"] 11 12 7 1 2 2 9 true`,
		`["acme" "web" "2.4.1" "production" "" "" "" "" "" "" "" "" "" "" "session" "beat" "" "" "" "" "t" "" ""] 13 0 0 0 5 5 0 false`,
	} {
		if got := row(b, r); got != want {
			t.Errorf("row %d: %s\nwant %s", r, got, want)
		}
	}
	if b.Len() != 3 || b.Kind(0) != event.Error || b.Code(Session, 0) != b.Code(Session, 1) || b.Code(Session, 0) == b.Code(Session, 2) {
		t.Errorf("%d rows, kind %s", b.Len(), b.Kind(0))
	}
}

func TestRecordRoundTrip(t *testing.T) {
	checked(t)
	for seed := range uint64(100) {
		want := fill(t, rand.New(rand.NewPCG(seed, 2)), 1+int(seed%20))
		rec := want.Record()
		if !rec.Schema().Equal(Schema) {
			t.Fatal(rec.Schema())
		}
		got, err := FromRecord(rec)
		if err != nil {
			t.Fatal(err)
		}
		checkSame(t, got, want)
		rec.Release()
		checkSame(t, got, want) // it is a copy
	}
}

// TestResetIsNew fills a batch again and again, and holds its columns, codes
// and all, against those of one that is new.
func TestResetIsNew(t *testing.T) {
	checked(t)
	var kept *Batch
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 3))
		fresh := New(Partition{mustID(t, "acme"), "web", "1"})
		if kept == nil {
			kept = New(fresh.Partition)
		}
		kept.Reset()
		for i := range r.IntN(200) { // with enough that the tables of near texts are made
			b := random(r)
			fresh.Append(seed, i, b)
			kept.Append(seed, i, b)
		}
		want, got := fresh.Record(), kept.Record()
		if !array.RecordEqual(want, got) {
			t.Fatalf("seed %d: %d rows after Reset are not those of a new batch", seed, kept.Len())
		}
		for i := range int(want.NumCols()) {
			a, ok := want.Column(i).(*array.Dictionary)
			if !ok {
				continue
			}
			if b := got.Column(i).(*array.Dictionary); !array.Equal(a.Indices(), b.Indices()) || !array.Equal(a.Dictionary(), b.Dictionary()) {
				t.Fatalf("seed %d: column %s has other codes after Reset", seed, Schema.Field(i).Name)
			}
		}
		for row := range kept.Len() {
			if kept.Kind(row) != fresh.Kind(row) {
				t.Fatalf("seed %d: row %d is of kind %v, want %v", seed, row, kept.Kind(row), fresh.Kind(row))
			}
		}
		want.Release()
		got.Release()
	}
}

func TestFromRecordTakesPlainTextAndSlices(t *testing.T) {
	want := fill(t, rand.New(rand.NewPCG(1, 2)), 30)
	rec := want.Record()
	defer rec.Release()
	cols := append([]arrow.Array(nil), rec.Columns()...)
	fields := append([]arrow.Field(nil), Schema.Fields()...)
	for c := range dictColumns {
		d := cols[c].(*array.Dictionary)
		plain, err := compute.TakeArray(context.Background(), d.Dictionary(), d.Indices())
		if err != nil {
			t.Fatal(err)
		}
		defer plain.Release()
		cols[c], fields[c].Type = plain, arrow.BinaryTypes.String
	}
	cols[0], cols[27], fields[0], fields[27] = cols[27], cols[0], fields[27], fields[0] // order does not matter
	dense := array.NewRecord(arrow.NewSchema(fields, nil), cols, rec.NumRows())
	defer dense.Release()
	got, err := FromRecord(dense)
	if err != nil {
		t.Fatal(err)
	}
	checkSame(t, got, want)

	for lo := range want.Len() {
		part := rec.NewSlice(int64(lo), int64(want.Len()))
		got, err := FromRecord(part)
		part.Release()
		if err != nil {
			t.Fatal(err)
		}
		for r := range got.Len() {
			if g, w := row(got, r), row(want, lo+r); g != w {
				t.Fatalf("slice from %d: row %d: %s\nwant %s", lo, r, g, w)
			}
		}
	}
}

func TestFromRecordMayBeAppendedTo(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	want := fill(t, r, 5)
	rec := want.Record()
	got, err := FromRecord(rec)
	rec.Release()
	if err != nil {
		t.Fatal(err)
	}
	bc := random(r)
	want.Append(99, 0, bc)
	got.Append(99, 0, bc)
	checkSame(t, got, want)
}

func TestFromRecordRefuses(t *testing.T) {
	good := fill(t, rand.New(rand.NewPCG(1, 2)), 3).Record()
	defer good.Release()
	n := int(good.NumRows())
	with := func(c Column, name string, a arrow.Array) arrow.Record {
		cols := append([]arrow.Array(nil), good.Columns()...)
		fields := append([]arrow.Field(nil), Schema.Fields()...)
		cols[c], fields[c] = a, arrow.Field{Name: name, Type: a.DataType(), Nullable: true}
		return array.NewRecord(arrow.NewSchema(fields, nil), cols, int64(n))
	}
	strs := func(valid bool, s ...string) arrow.Array {
		b := array.NewStringBuilder(memory.DefaultAllocator)
		for i := range n {
			if valid {
				b.Append(s[i%len(s)])
			} else {
				b.AppendNull()
			}
		}
		return b.NewArray()
	}
	codes := make([]uint32, n)
	codes[n-1] = 99
	beyond := array.NewDictionaryData(array.NewDataWithDictionary(dictType, n, []*memory.Buffer{nil, wrap(codes)}, 0, 0, strs(true, "x").Data().(*array.Data)))
	for name, rec := range map[string]arrow.Record{
		"no rows":        good.NewSlice(0, 0),
		"column missing": with(OS, "nothing", strs(true, "x")),
		"column twice":   with(OS, "page", strs(true, "x")),
		"null text":      with(OS, "os", strs(false)),
		"wrong type":     with(Time, "time_ms", strs(true, "x")),
		"float time":     with(Time, "time_ms", good.Column(int(Value))),
		"int value":      with(Value, "value", good.Column(int(Time))),
		"two releases":   with(Release, "release", strs(true, "1", "2")),
		"bad tenant":     with(Tenant, "tenant", strs(true, "../x")),
		"code beyond":    with(OS, "os", beyond),
	} {
		t.Run(name, func(t *testing.T) {
			if b, err := FromRecord(rec); err == nil {
				t.Fatalf("%d rows", b.Len())
			}
		})
	}
}

// The bitmap grows by a byte every eight rows.
func TestNullsAtByteBoundaries(t *testing.T) {
	for _, n := range []int{1, 7, 8, 9, 15, 16, 17, 64, 65} {
		for _, pattern := range []uint64{0, ^uint64(0), 0xaaaaaaaaaaaaaaaa, 0x80, 0x7f, 1 << 63} {
			b := New(Partition{mustID(t, "acme"), "a", "r"})
			bc := &event.Beacon{App: "a", Release: "r"}
			for i := range n {
				on := pattern>>(i%64)&1 == 1
				bc.Events = append(bc.Events, event.One{Kind: event.Metric, Name: "m", Value: float64(i), HasVal: on})
			}
			b.Append(1, 0, bc)
			rec := b.Record()
			col := rec.Column(int(Value)).(*array.Float64)
			nulls := 0
			for i := range n {
				on := bc.Events[i].HasVal
				if !on {
					nulls++
				}
				if v, ok := b.Value(i); ok != on || col.IsValid(i) != on || on && (v != float64(i) || col.Value(i) != v) {
					t.Fatalf("%d rows, pattern %x: row %d is %v %v", n, pattern, i, v, ok)
				}
			}
			if col.NullN() != nulls {
				t.Fatalf("%d rows, pattern %x: %d nulls, want %d", n, pattern, col.NullN(), nulls)
			}
			got, err := FromRecord(rec)
			if err != nil {
				t.Fatal(err)
			}
			checkSame(t, got, b)
			rec.Release()
		}
	}
}

func TestRecordSharesMemory(t *testing.T) {
	checked(t)
	b := fill(t, rand.New(rand.NewPCG(8, 8)), 3)
	rec := b.Record()
	defer rec.Release()
	if &rec.Column(int(Time)).(*array.Int64).Int64Values()[0] != &b.time[0] {
		t.Error("times were copied")
	}
	empty := New(b.Partition).Record()
	defer empty.Release()
	if empty.NumRows() != 0 {
		t.Error("rows in the record of an empty batch")
	}
}
