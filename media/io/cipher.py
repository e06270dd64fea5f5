"""OpenSSL's AES for compiled code, by the names of the copy that libsrtp's binding holds.

A context is made and used by the functions here alone: the process holds other copies of OpenSSL as well. Every return
code is looked at by who calls.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
from numba import types
from pylibsrtp import _binding

llvmlite.binding.load_library_permanently(_binding.__file__)

_pointer, _int, _void = types.uintp, types.int32, types.void

# EVP_CIPHER_CTX *EVP_CIPHER_CTX_new(void); void EVP_CIPHER_CTX_free(EVP_CIPHER_CTX *)
new_context: Any = types.ExternalFunction("EVP_CIPHER_CTX_new", _pointer())
free_context: Any = types.ExternalFunction("EVP_CIPHER_CTX_free", _void(_pointer))
# const EVP_CIPHER *EVP_aes_*(void)
aes_128_gcm: Any = types.ExternalFunction("EVP_aes_128_gcm", _pointer())
aes_256_gcm: Any = types.ExternalFunction("EVP_aes_256_gcm", _pointer())
aes_128_ecb: Any = types.ExternalFunction("EVP_aes_128_ecb", _pointer())
aes_256_ecb: Any = types.ExternalFunction("EVP_aes_256_ecb", _pointer())
# int EVP_EncryptInit_ex(EVP_CIPHER_CTX *, const EVP_CIPHER *, ENGINE *, const unsigned char *key, const ... *iv)
encrypt_init: Any = types.ExternalFunction("EVP_EncryptInit_ex", _int(_pointer, _pointer, _pointer, _pointer, _pointer))
decrypt_init: Any = types.ExternalFunction("EVP_DecryptInit_ex", _int(_pointer, _pointer, _pointer, _pointer, _pointer))
# int EVP_EncryptUpdate(EVP_CIPHER_CTX *, unsigned char *out, int *out_size, const unsigned char *in, int in_size)
encrypt_update: Any = types.ExternalFunction("EVP_EncryptUpdate", _int(_pointer, _pointer, _pointer, _pointer, _int))
decrypt_update: Any = types.ExternalFunction("EVP_DecryptUpdate", _int(_pointer, _pointer, _pointer, _pointer, _int))
# int EVP_EncryptFinal_ex(EVP_CIPHER_CTX *, unsigned char *out, int *out_size)
encrypt_final: Any = types.ExternalFunction("EVP_EncryptFinal_ex", _int(_pointer, _pointer, _pointer))
decrypt_final: Any = types.ExternalFunction("EVP_DecryptFinal_ex", _int(_pointer, _pointer, _pointer))
# int EVP_Cipher(EVP_CIPHER_CTX *, unsigned char *out, const unsigned char *in, unsigned in_size); less than 0: error
# One call for what `*_update` (no `out`: additional data) and `*_final` (no `in`) do, without their checks.
transform: Any = types.ExternalFunction("EVP_Cipher", _int(_pointer, _pointer, _pointer, types.uint32))
# int EVP_CIPHER_CTX_ctrl(EVP_CIPHER_CTX *, int type, int arg, void *ptr)
control: Any = types.ExternalFunction("EVP_CIPHER_CTX_ctrl", _int(_pointer, _int, _int, _pointer))

GET_TAG, SET_TAG = 0x10, 0x11  # openssl/evp.h
TAG_BYTES, BLOCK_BYTES = 16, 16
