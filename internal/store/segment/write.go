package segment

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"reflect"
	"slices"
	"strconv"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/apache/arrow/go/v17/parquet/file"
	"github.com/apache/arrow/go/v17/parquet/metadata"
	"github.com/apache/arrow/go/v17/parquet/pqarrow"

	"serin.dev/serin/internal/store/batch"
)

// encode writes a whole segment: the pages are ours (see [hybrid]), their
// headers, the metadata and the footer Arrow's.
func (s *scratch) encode(f *os.File, h header, bs []*batch.Batch, do func(work func())) error {
	props := properties()
	schema, err := pqarrow.ToParquet(batch.Schema, props, pqarrow.DefaultWriterProps())
	if err != nil {
		return err
	}
	kv := metadata.NewKeyValueMetadata()
	meta := batch.Schema.Metadata()
	for i, key := range meta.Keys() {
		if err := kv.Append(key, meta.Values()[i]); err != nil {
			return err
		}
	}
	for _, one := range [][2]string{
		{"tenant", h.tenant},
		{"app", h.app},
		{"from", strconv.FormatUint(h.from, 10)},
		{"to", strconv.FormatUint(h.to, 10)},
		{dataSumKey, blank},
		{footerSumKey, blank},
	} {
		if err := kv.Append(one[0], one[1]); err != nil {
			return err
		}
	}
	if s.out == nil {
		s.out = bufio.NewWriterSize(nil, 256<<10)
	}
	s.out.Reset(f)
	out := &told{w: s.out}
	w := writer{scratch: s, out: out, meta: metadata.NewFileMetadataBuilder(schema, props, kv)}
	if w.pages, err = file.NewPageWriter(out, compress.Codecs.Zstd, 0, nil, 0, 0, memory.DefaultAllocator, false, nil, nil); err != nil {
		return err
	}
	if _, err := io.WriteString(out, magic); err != nil {
		return err
	}
	for i, b := range bs {
		if err := w.rowGroup(i, b, do); err != nil {
			return err
		}
	}
	foot, err := w.meta.Finish()
	if err != nil {
		return err
	}
	n, err := foot.WriteTo(out, nil)
	if err != nil {
		return err
	}
	if _, err := out.Write(append(binary.LittleEndian.AppendUint32(nil, uint32(n)), magic...)); err != nil {
		return err
	}
	if err := out.w.Flush(); err != nil {
		return err
	}
	return seal(f)
}

// told is a file that is written and knows where it is.
type told struct {
	w *bufio.Writer
	n int64
}

func (t *told) Write(p []byte) (int, error) {
	n, err := t.w.Write(p)
	t.n += int64(n)
	return n, err
}

// Tell returns how many bytes were written.
func (t *told) Tell() int64 { return t.n }

// writer writes row groups.
type writer struct {
	*scratch
	out   *told
	meta  *metadata.FileMetaDataBuilder
	pages file.PageWriter
}

// scratch is memory that is used for one column after the other, and for one segment
// after the other: to make it anew for each was a quarter of all the garbage.
type scratch struct {
	out    *bufio.Writer
	order  []run
	runs   []int32 // rows of each beacon
	hybrid hybrid
	delta  delta
	words  []byte
	packed bytes.Buffer
}

// maxKept is how many bytes of a buffer are kept for the next segment; a larger one was
// of an unusual one.
const maxKept = 16 << 20

// keep lets go of what the segment that was written alone needed.
func (s *scratch) keep() {
	if s.out != nil {
		s.out.Reset(nil)
	}
	clear(s.order) // holds no batch
	s.order, s.runs, s.words = kept(s.order), kept(s.runs), kept(s.words)
	s.hybrid.dst, s.hybrid.open, s.delta.dst = kept(s.hybrid.dst), kept(s.hybrid.open), kept(s.delta.dst)
	if s.packed.Cap() > maxKept {
		s.packed = bytes.Buffer{}
	}
}

func kept[T any](buffer []T) []T {
	if uintptr(cap(buffer))*reflect.TypeFor[T]().Size() > maxKept {
		return nil
	}
	return buffer[:0]
}

func (w *writer) rowGroup(ordinal int, b *batch.Batch, do func(work func())) error {
	if ordinal > math.MaxInt16 {
		return fmt.Errorf("more than %d batches of one app", math.MaxInt16+1)
	}
	group := w.meta.AppendRowGroup()
	group.SetNumRows(b.Len())
	w.runs = b.Runs(w.runs[:0])
	size := int64(0)
	for c := batch.Column(0); c <= batch.Value; c++ {
		column := group.NextColumnChunk()
		var n int64
		var err error
		do(func() {
			switch {
			case c < batch.Position:
				n, err = w.dictionary(column, b, c)
			case c == batch.Value:
				n, err = w.doubles(column, b)
			default:
				n, err = w.integers(column, b, c)
			}
		})
		if err != nil {
			return fmt.Errorf("column %s: %w", batch.Schema.Field(int(c)).Name, err)
		}
		size += n
	}
	return group.Finish(size, int16(ordinal))
}

// chunk is a column of a row group, one page after its dictionary, if any.
type chunk struct {
	meta *metadata.ColumnChunkMetaDataBuilder
	info metadata.ChunkMetaInfo
	dict map[parquet.Encoding]int32
}

// dictionary writes a column of texts.
func (w *writer) dictionary(meta *metadata.ColumnChunkMetaDataBuilder, b *batch.Batch, c batch.Column) (int64, error) {
	words := b.Words(c)
	w.words = w.words[:0]
	for _, s := range words {
		w.words = append(binary.LittleEndian.AppendUint32(w.words, uint32(len(s))), s...)
	}
	ch := chunk{meta: meta, dict: map[parquet.Encoding]int32{parquet.Encodings.Plain: 1}}
	ch.info.DictPageOffset = w.out.Tell()
	n, err := w.pages.WriteDictionaryPage(file.NewDictionaryPage(memory.NewBufferBytes(w.words), int32(len(words)), parquet.Encodings.Plain))
	if err != nil {
		return 0, err
	}
	ch.info.CompressedSize, ch.info.UncompressedSize = n, int64(len(w.words)) // and its header, which only Arrow knows

	h := &w.hybrid
	h.width = codeWidth(len(words))
	h.dst, h.open = append(h.dst[:0], byte(h.width)), h.open[:0]
	codes, byRow := b.Codes(c)
	for i := 0; i < len(codes); {
		code, rows := codes[i], 0
		for ; i < len(codes) && codes[i] == code; i++ {
			if byRow {
				rows++
			} else {
				rows += int(w.runs[i])
			}
		}
		h.add(code, rows)
	}
	h.pack()
	if readersChoose(c) {
		meta.SetStats(between([]byte(slices.Min(words)), []byte(slices.Max(words))))
	}
	return w.page(&ch, h.dst, b.Len(), parquet.Encodings.RLEDict)
}

// integers writes a column of integers.
func (w *writer) integers(meta *metadata.ColumnChunkMetaDataBuilder, b *batch.Batch, c batch.Column) (int64, error) {
	w.delta.begin(w.delta.dst[:0], b.Len())
	if longs, byRow := b.Longs(c); longs != nil {
		put(w, longs, byRow)
		text := func(v int64) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(v)) }
		meta.SetStats(between(text(slices.Min(longs)), text(slices.Max(longs))))
	} else {
		ints, byRow := b.Ints(c)
		put(w, ints, byRow)
		text := func(v int32) []byte { return binary.LittleEndian.AppendUint32(nil, uint32(v)) }
		meta.SetStats(between(text(slices.Min(ints)), text(slices.Max(ints))))
	}
	w.delta.block()
	return w.page(&chunk{meta: meta}, w.delta.dst, b.Len(), parquet.Encodings.DeltaBinaryPacked)
}

func put[T int32 | int64](w *writer, values []T, byRow bool) {
	for i, v := range values {
		if byRow {
			w.delta.add(int64(v), 1)
		} else {
			w.delta.add(int64(v), int(w.runs[i]))
		}
	}
}

// doubles writes the values, behind the levels that say which rows have one.
func (w *writer) doubles(meta *metadata.ColumnChunkMetaDataBuilder, b *batch.Batch) (int64, error) {
	values, valid := b.Doubles()
	h := &w.hybrid
	h.width = 1
	h.dst, h.open = append(h.dst[:0], 0, 0, 0, 0), h.open[:0] // room for the length of the levels
	has := func(i int) uint32 { return uint32(valid[i/8]>>(i%8)) & 1 }
	for i := 0; i < len(values); {
		from, level := i, has(i)
		for i++; i < len(values) && has(i) == level; i++ {
		}
		h.add(level, i-from)
	}
	h.pack()
	binary.LittleEndian.PutUint32(h.dst, uint32(len(h.dst)-4))
	for i, v := range values {
		if has(i) == 1 {
			h.dst = binary.LittleEndian.AppendUint64(h.dst, math.Float64bits(v))
		}
	}
	return w.page(&chunk{meta: meta}, h.dst, len(values), parquet.Encodings.Plain)
}

// page writes the one data page of a chunk, and ends the chunk. It returns how
// many bytes the chunk would have without compression.
func (w *writer) page(c *chunk, data []byte, rows int, e parquet.Encoding) (int64, error) {
	if len(data) > math.MaxInt32 || rows > math.MaxInt32 {
		return 0, fmt.Errorf("a page of %d rows and %d bytes", rows, len(data))
	}
	c.info.DataPageOffset, c.info.IndexPageOffset = w.out.Tell(), -1
	w.packed.Reset()
	packed := w.pages.Compress(&w.packed, data)
	n, err := w.pages.WriteDataPage(file.NewDataPageV1(memory.NewBufferBytes(packed), int32(rows), e, parquet.Encodings.RLE, parquet.Encodings.RLE, int32(len(data))))
	if err != nil {
		return 0, err
	}
	c.info.NumValues = int64(rows)
	c.info.CompressedSize += n
	c.info.UncompressedSize += n - int64(len(packed)) + int64(len(data))
	err = c.meta.Finish(c.info, c.dict != nil, false, metadata.EncodingStats{DictEncodingStats: c.dict, DataEncodingStats: map[parquet.Encoding]int32{e: 1}}, nil)
	return c.info.UncompressedSize, err
}

// between is the statistics of a column without nulls.
func between(least, most []byte) (s metadata.EncodedStatistics) {
	s.SetMin(least).SetMax(most).SetNullCount(0)
	return s
}
