// What a loader reads of an AMD code object: its GPU, its kernels and the bytes of their arguments.
#pragma once
#include <cstdint>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace code_object {

/// A kernel of the metadata.
struct Kernel {
    uint64_t argument_bytes = 0;
    uint64_t wave_lanes = 0;
    std::string symbol;
};

struct Object {
    uint32_t machine = 0;
    std::map<std::string, Kernel> kernels;
};

/// Bytes of the file; a read past its end throws.
class Bytes {
   public:
    Bytes(const uint8_t* data, uint64_t count) : data_(data), count_(count) {}
    const uint8_t* at(uint64_t offset, uint64_t count) const {
        if (offset > count_ || count > count_ - offset) throw std::runtime_error("past the end");
        return data_ + offset;
    }
    template <typename T>
    T read(uint64_t offset) const {
        T value;
        std::memcpy(&value, at(offset, sizeof(T)), sizeof(T));
        return value;
    }
    Bytes part(uint64_t offset, uint64_t count) const { return {at(offset, count), count}; }
    uint64_t count() const { return count_; }

   private:
    const uint8_t* data_;
    uint64_t count_;
};

/// MessagePack, as far as metadata uses it.
class Pack {
   public:
    explicit Pack(Bytes bytes) : bytes_(bytes) {}

    /// Entries of a map, or items of an array.
    uint64_t group(bool map) {
        const uint8_t tag = byte();
        const uint8_t fixed = map ? 0x80 : 0x90;
        if ((tag & 0xf0) == fixed) return tag & 0x0f;
        if (tag == (map ? 0xde : 0xdc)) return big(2);
        if (tag == (map ? 0xdf : 0xdd)) return big(4);
        throw std::runtime_error("no map or array");
    }
    std::string text() {
        const uint8_t tag = byte();
        uint64_t count = 0;
        if ((tag & 0xe0) == 0xa0) {
            count = tag & 0x1f;
        } else if (tag >= 0xd9 && tag <= 0xdb) {
            count = big(1ull << (tag - 0xd9));
        } else {
            throw std::runtime_error("no text");
        }
        const uint8_t* data = bytes_.at(offset_, count);
        offset_ += count;
        return {(const char*)data, count};
    }
    uint64_t number() {
        const uint8_t tag = byte();
        if (tag < 0x80) return tag;
        if (tag >= 0xcc && tag <= 0xcf) return big(1ull << (tag - 0xcc));
        throw std::runtime_error("no number");
    }
    void skip() {
        const uint8_t tag = bytes_.read<uint8_t>(offset_);
        if ((tag & 0xf0) == 0x80 || tag == 0xde || tag == 0xdf) {
            for (uint64_t left = group(true) * 2; left > 0; --left) skip();
        } else if ((tag & 0xf0) == 0x90 || tag == 0xdc || tag == 0xdd) {
            for (uint64_t left = group(false); left > 0; --left) skip();
        } else if ((tag & 0xe0) == 0xa0 || (tag >= 0xd9 && tag <= 0xdb)) {
            text();
        } else if (tag == 0xc2 || tag == 0xc3 || tag == 0xc0) {
            byte();
        } else {
            number();
        }
    }

   private:
    uint8_t byte() { return bytes_.read<uint8_t>(offset_++); }
    uint64_t big(uint64_t count) {
        uint64_t value = 0;
        for (uint64_t i = 0; i < count; ++i) value = value << 8 | byte();
        return value;
    }
    Bytes bytes_;
    uint64_t offset_ = 0;
};

inline void read_kernels(Pack pack, Object& object) {
    for (uint64_t entries = pack.group(true); entries > 0; --entries) {
        if (pack.text() != "amdhsa.kernels") {
            pack.skip();
            continue;
        }
        for (uint64_t kernels = pack.group(false); kernels > 0; --kernels) {
            Kernel kernel;
            std::string name;
            for (uint64_t fields = pack.group(true); fields > 0; --fields) {
                const std::string field = pack.text();
                if (field == ".name") name = pack.text();
                else if (field == ".symbol") kernel.symbol = pack.text();
                else if (field == ".kernarg_segment_size") kernel.argument_bytes = pack.number();
                else if (field == ".wavefront_size") kernel.wave_lanes = pack.number();
                else pack.skip();
            }
            object.kernels[name] = kernel;
        }
    }
}

/// Section headers of a 64-bit little-endian ELF.
struct Section {
    uint32_t name, type;
    uint64_t flags, address, offset, bytes;
    uint32_t link, info;
    uint64_t alignment, entry_bytes;
};

/// The whole length of an image that is only an address: sections stand last in it.
inline uint64_t length(const void* image) {
    const Bytes header((const uint8_t*)image, 64);
    return header.read<uint64_t>(40) + (uint64_t)header.read<uint16_t>(58) * sizeof(Section);
}

/// Reads an image; throws where it is none of an AMD GPU.
inline Object read(const void* image) {
    if (std::memcmp(image, "\x7f" "ELF\x02\x01", 6) != 0) throw std::runtime_error("no ELF");
    const Bytes file((const uint8_t*)image, length(image));
    if (file.read<uint16_t>(18) != 224) throw std::runtime_error("not of an AMD GPU");
    Object object;
    object.machine = file.read<uint32_t>(48) & 0xff;
    const uint64_t table = file.read<uint64_t>(40);
    const auto section = [&](uint64_t index) {
        return file.read<Section>(table + index * sizeof(Section));
    };
    std::map<std::string, bool> symbols;
    for (uint64_t index = 0; index < file.read<uint16_t>(60); ++index) {
        const Section found = section(index);
        if (found.type == 7) {
            // One note: sizes of name and content, type 32, "AMDGPU", MessagePack.
            const Bytes note = file.part(found.offset, found.bytes);
            if (note.read<uint32_t>(8) != 32) throw std::runtime_error("no metadata");
            read_kernels(Pack(note.part(20, note.read<uint32_t>(4))), object);
        } else if (found.type == 11) {
            const Section names = section(found.link);
            for (uint64_t at = 0; at < found.bytes; at += 24) {
                const uint32_t name = file.read<uint32_t>(found.offset + at);
                const Bytes rest = file.part(names.offset + name, names.bytes - name);
                symbols[(const char*)rest.at(0, 1)] = true;
            }
        }
    }
    for (const auto& [name, kernel] : object.kernels) {
        if (!symbols.count(kernel.symbol)) throw std::runtime_error("a kernel without a symbol");
    }
    return object;
}

}  // namespace code_object
