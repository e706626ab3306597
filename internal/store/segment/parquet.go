package segment

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/apache/arrow/go/v17/parquet/file"
	"github.com/apache/arrow/go/v17/parquet/metadata"
	"github.com/apache/arrow/go/v17/parquet/pqarrow"

	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/batch"
)

// header is what the key-value metadata of a segment says.
type header struct {
	tenant, app string
	from, to    uint64
}

// properties of the files: dictionaries never fall back to plain text, since a
// batch bounds them already; numbers that climb are written as differences.
func properties() *parquet.WriterProperties {
	opts := []parquet.WriterProperty{
		parquet.WithVersion(parquet.V2_LATEST),
		parquet.WithCompression(compress.Codecs.Zstd),
		parquet.WithDictionaryDefault(true),
		parquet.WithDictionaryPageSizeLimit(1 << 30),
		parquet.WithCreatedBy("serin"),
	}
	for c := range batch.Position {
		if !readersChoose(c) {
			opts = append(opts, parquet.WithStatsFor(batch.Schema.Field(int(c)).Name, false))
		}
	}
	for c := batch.Position; c <= batch.Received; c++ {
		name := batch.Schema.Field(int(c)).Name
		opts = append(opts, parquet.WithDictionaryFor(name, false), parquet.WithEncodingFor(name, parquet.Encodings.DeltaBinaryPacked))
	}
	value := batch.Schema.Field(int(batch.Value)).Name
	return parquet.NewWriterProperties(append(opts, parquet.WithDictionaryFor(value, false), parquet.WithStatsFor(value, false))...)
}

// readersChoose reports whether readers choose row groups by a column of texts:
// those have their least and greatest text in the metadata.
func readersChoose(c batch.Column) bool {
	return c == batch.Tenant || c == batch.App || c == batch.Release
}

// with opens a segment, checks it and calls fn. Whatever fn cannot read is
// corrupt.
func with(path string, all bool, fn func(*file.Reader, header) error) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // read only: nothing to lose
	if err := verify(f, all); err != nil {
		return err
	}
	// The checksums say that these are our bytes. Should they be of a version
	// of us that wrote something else, then Arrow v17 panics in many places
	// where it meets a page or a Thrift structure that it does not expect.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrCorrupt, r)
		}
	}()
	r, err := file.NewParquetReader(f)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	h, err := headerOf(r.MetaData().KeyValueMetadata())
	if err != nil {
		return err
	}
	return fn(r, h)
}

func headerOf(kv metadata.KeyValueMetadata) (h header, err error) {
	text := func(key string) string {
		v := kv.FindValue(key)
		if v == nil {
			err = errors.Join(err, fmt.Errorf("%w: no %s", ErrCorrupt, key))
			return ""
		}
		return *v
	}
	number := func(key string) uint64 {
		n, e := strconv.ParseUint(text(key), 10, 64)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("%w: %s: %w", ErrCorrupt, key, e))
		}
		return n
	}
	if v := text("serin.schema"); err == nil && v != strconv.Itoa(event.SchemaVersion) {
		return h, fmt.Errorf("event schema %s, this program reads %d", v, event.SchemaVersion)
	}
	h = header{tenant: text("tenant"), app: text("app"), from: number("from"), to: number("to")}
	return h, err
}

func readHeader(path string) (h header, err error) {
	err = with(path, false, func(_ *file.Reader, got header) error {
		h = got
		return nil
	})
	return h, err
}

// measure fills in the rows and bytes of a segment.
func measure(i *Info) error {
	stat, err := os.Stat(i.Path)
	if err != nil {
		return err
	}
	i.Bytes = stat.Size()
	return with(i.Path, false, func(r *file.Reader, _ header) error {
		i.Rows = r.NumRows()
		return nil
	})
}

// decode reads all batches of a segment, which must be the one that its name
// says.
func decode(ctx context.Context, path string, want header) (bs []*batch.Batch, err error) {
	err = with(path, true, func(r *file.Reader, got header) error {
		if got != want {
			return fmt.Errorf("%w: it holds tenant %q, app %q, positions %d to %d", ErrCorrupt, got.tenant, got.app, got.from, got.to)
		}
		var props pqarrow.ArrowReadProperties
		for c := range int(batch.Position) {
			props.SetReadDict(c, true)
		}
		fr, err := pqarrow.NewFileReader(r, props, memory.DefaultAllocator)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		for i := range r.NumRowGroups() {
			b, err := rowGroup(ctx, fr, i)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				return fmt.Errorf("%w: row group %d: %w", ErrCorrupt, i, err)
			}
			if b.Tenant.String() != want.tenant || b.App != want.app {
				return fmt.Errorf("%w: row group %d is of tenant %q, app %q", ErrCorrupt, i, b.Tenant, b.App)
			}
			bs = append(bs, b)
		}
		return nil
	})
	return bs, err
}

// rowGroup reads one column after the other, in this goroutine: the readers of
// tables and records start goroutines of their own, in which a panic of Arrow
// would end the program.
func rowGroup(ctx context.Context, fr *pqarrow.FileReader, i int) (*batch.Batch, error) {
	group := fr.ParquetReader().RowGroup(i)
	cols := make([]arrow.Array, 0, batch.Schema.NumFields())
	fields := make([]arrow.Field, 0, cap(cols))
	for _, f := range batch.Schema.Fields() {
		// A reader that is canceled half-way gives neither a column nor an error.
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c := group.MetaData().Schema.ColumnIndexByName(f.Name)
		if c < 0 {
			return nil, fmt.Errorf("no column %s", f.Name)
		}
		r, err := fr.GetFieldReader(context.WithoutCancel(ctx), c, map[int]bool{c: true}, []int{i})
		if err != nil {
			return nil, err
		}
		defer r.Release() // as the reader of a column chunk forgets to
		col, err := fr.ReadColumn([]int{i}, r)
		if err != nil {
			return nil, err
		}
		defer col.Release()
		if len(col.Chunks()) != 1 || int64(col.Len()) != group.NumRows() {
			return nil, fmt.Errorf("column %s: %d chunks with %d rows, want 1 with %d", f.Name, len(col.Chunks()), col.Len(), group.NumRows())
		}
		f.Type = col.DataType() // int32 for the codes, whatever was written
		cols, fields = append(cols, col.Chunk(0)), append(fields, f)
	}
	rec := array.NewRecord(arrow.NewSchema(fields, nil), cols, group.NumRows())
	defer rec.Release()
	return batch.FromRecord(rec)
}
