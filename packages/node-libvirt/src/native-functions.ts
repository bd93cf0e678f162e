// The C functions this package calls, with their types: result first, then the parameters, in koffi's words.
// The table is the single place where a signature is written; callers get their argument and result types
// from it, and the threads that make the calls get the signature along with each call.
//
// `str!` is a string that libvirt allocated and the caller frees, which koffi does after copying it. A
// function absent from an old libvirt is harmless until it is called (see native-threads.ts).

/** An address in this process. It means the same on every thread, so it may be sent between them. */
export type Pointer = bigint

/** A type of C, as koffi spells it, and the value that stands for it in JavaScript. */
interface NativeTypes {
  void: undefined
  int: number
  uint: number
  ulong: number | bigint
  ulonglong: number | bigint
  'void *': Pointer | null
  str: string | null
  'str!': string | null
}
type NativeType = keyof NativeTypes

export const nativeFunctions = {
  // <libvirt/virterror.h>, <libvirt/libvirt-event.h>
  virGetLastErrorCode: ['int'],
  virSetErrorFunc: ['void', 'void *', 'void *'],
  virEventRegisterDefaultImpl: ['int'],
  virEventRunDefaultImpl: ['int'],
  virEventAddTimeout: ['int', 'int', 'void *', 'void *', 'void *'],
  virEventUpdateTimeout: ['void', 'int', 'int'],

  // <libvirt/libvirt-common.h>
  virTypedParamsAddInt: ['int', 'void *', 'void *', 'void *', 'str', 'int'],
  virTypedParamsAddUInt: ['int', 'void *', 'void *', 'void *', 'str', 'uint'],
  virTypedParamsAddULLong: ['int', 'void *', 'void *', 'void *', 'str', 'ulonglong'],
  virTypedParamsAddString: ['int', 'void *', 'void *', 'void *', 'str', 'str'],
  virTypedParamsFree: ['void', 'void *', 'int'],

  // <libvirt/libvirt-host.h>
  virGetVersion: ['int', 'void *', 'str', 'void *'],
  virConnectOpen: ['void *', 'str'],
  virConnectOpenReadOnly: ['void *', 'str'],
  virConnectClose: ['int', 'void *'],
  virConnectIsAlive: ['int', 'void *'],
  virConnectSetKeepAlive: ['int', 'void *', 'int', 'uint'],
  virConnectRegisterCloseCallback: ['int', 'void *', 'void *', 'void *', 'void *'],
  virConnectUnregisterCloseCallback: ['int', 'void *', 'void *'],
  virConnectGetURI: ['str!', 'void *'],
  virConnectGetHostname: ['str!', 'void *'],
  virConnectGetVersion: ['int', 'void *', 'void *'],
  virConnectGetLibVersion: ['int', 'void *', 'void *'],
  virConnectGetCapabilities: ['str!', 'void *'],
  virConnectGetCPUModelNames: ['int', 'void *', 'str', 'void *', 'uint'],
  virConnectBaselineCPU: ['str!', 'void *', 'void *', 'uint', 'uint'],
  virConnectBaselineHypervisorCPU: ['str!', 'void *', 'str', 'str', 'str', 'str', 'void *', 'uint', 'uint'],
  virConnectCompareHypervisorCPU: ['int', 'void *', 'str', 'str', 'str', 'str', 'str', 'uint'],
  virNodeGetInfo: ['int', 'void *', 'void *'],
  virNodeGetFreeMemory: ['ulonglong', 'void *'],

  // <libvirt/libvirt-domain.h>: from the connection
  virConnectGetDomainCapabilities: ['str!', 'void *', 'str', 'str', 'str', 'str', 'uint'],
  virConnectListAllDomains: ['int', 'void *', 'void *', 'uint'],
  virConnectGetAllDomainStats: ['int', 'void *', 'uint', 'void *', 'uint'],
  virDomainStatsRecordListFree: ['void', 'void *'],
  virConnectDomainEventRegisterAny: ['int', 'void *', 'void *', 'int', 'void *', 'void *', 'void *'],
  virConnectDomainEventDeregisterAny: ['int', 'void *', 'int'],
  virDomainDefineXMLFlags: ['void *', 'void *', 'str', 'uint'],
  virDomainCreateXML: ['void *', 'void *', 'str', 'uint'],
  virDomainLookupByUUIDString: ['void *', 'void *', 'str'],
  virDomainLookupByName: ['void *', 'void *', 'str'],
  virDomainLookupByID: ['void *', 'void *', 'int'],

  // <libvirt/libvirt-domain.h>: of one domain
  virDomainFree: ['int', 'void *'],
  virDomainGetName: ['str', 'void *'],
  virDomainGetUUIDString: ['int', 'void *', 'void *'],
  virDomainGetID: ['uint', 'void *'],
  virDomainCreateWithFlags: ['int', 'void *', 'uint'],
  virDomainShutdownFlags: ['int', 'void *', 'uint'],
  virDomainReboot: ['int', 'void *', 'uint'],
  virDomainReset: ['int', 'void *', 'uint'],
  virDomainDestroyFlags: ['int', 'void *', 'uint'],
  virDomainSuspend: ['int', 'void *'],
  virDomainResume: ['int', 'void *'],
  virDomainManagedSave: ['int', 'void *', 'uint'],
  virDomainManagedSaveRemove: ['int', 'void *', 'uint'],
  virDomainHasManagedSaveImage: ['int', 'void *', 'uint'],
  virDomainUndefineFlags: ['int', 'void *', 'uint'],
  virDomainRename: ['int', 'void *', 'str', 'uint'],
  virDomainGetState: ['int', 'void *', 'void *', 'void *', 'uint'],
  virDomainGetInfo: ['int', 'void *', 'void *'],
  virDomainGetXMLDesc: ['str!', 'void *', 'uint'],
  virDomainGetMetadata: ['str!', 'void *', 'int', 'str', 'uint'],
  virDomainSetMetadata: ['int', 'void *', 'int', 'str', 'str', 'str', 'uint'],
  virDomainGetAutostart: ['int', 'void *', 'void *'],
  virDomainSetAutostart: ['int', 'void *', 'int'],
  virDomainIsActive: ['int', 'void *'],
  virDomainIsPersistent: ['int', 'void *'],
  virDomainSetMemoryFlags: ['int', 'void *', 'ulong', 'uint'],
  virDomainSetMemoryStatsPeriod: ['int', 'void *', 'int', 'uint'],
  virDomainSetVcpusFlags: ['int', 'void *', 'uint', 'uint'],
  virDomainGetVcpusFlags: ['int', 'void *', 'uint'],
  virDomainAttachDeviceFlags: ['int', 'void *', 'str', 'uint'],
  virDomainDetachDeviceFlags: ['int', 'void *', 'str', 'uint'],
  virDomainDetachDeviceAlias: ['int', 'void *', 'str', 'uint'],
  virDomainUpdateDeviceFlags: ['int', 'void *', 'str', 'uint'],
  virDomainGetBlockInfo: ['int', 'void *', 'str', 'void *', 'uint'],
  virDomainBlockResize: ['int', 'void *', 'str', 'ulonglong', 'uint'],
  virDomainMemoryStats: ['int', 'void *', 'void *', 'uint', 'uint'],
  virDomainInterfaceAddresses: ['int', 'void *', 'void *', 'uint', 'uint'],
  virDomainInterfaceFree: ['void', 'void *'],
  virDomainSendKey: ['int', 'void *', 'uint', 'uint', 'void *', 'int', 'uint'],
  virDomainOpenGraphicsFD: ['int', 'void *', 'uint', 'uint'],
  virDomainGetMessages: ['int', 'void *', 'void *', 'uint'],
  // Since libvirt 11.2
  virDomainGetAutostartOnce: ['int', 'void *', 'void *'],
  virDomainSetAutostartOnce: ['int', 'void *', 'int'],

  // <libvirt/libvirt-domain.h>: jobs and migration
  virDomainMigrateToURI3: ['int', 'void *', 'str', 'void *', 'uint', 'uint'],
  virDomainMigrateGetMaxDowntime: ['int', 'void *', 'void *', 'uint'],
  virDomainMigrateSetMaxDowntime: ['int', 'void *', 'ulonglong', 'uint'],
  virDomainMigrateGetMaxSpeed: ['int', 'void *', 'void *', 'uint'],
  virDomainMigrateSetMaxSpeed: ['int', 'void *', 'ulong', 'uint'],
  virDomainMigrateStartPostCopy: ['int', 'void *', 'uint'],
  virDomainGetJobStats: ['int', 'void *', 'void *', 'void *', 'void *', 'uint'],
  virDomainAbortJob: ['int', 'void *'],

  // <libvirt/libvirt-qemu.h>, of libvirt-qemu.so.0
  virDomainQemuMonitorCommand: ['int', 'void *', 'str', 'void *', 'uint'],

  // <libvirt/libvirt-storage.h>
  virConnectListAllStoragePools: ['int', 'void *', 'void *', 'uint'],
  virStoragePoolDefineXML: ['void *', 'void *', 'str', 'uint'],
  virStoragePoolCreateXML: ['void *', 'void *', 'str', 'uint'],
  virStoragePoolLookupByName: ['void *', 'void *', 'str'],
  virStoragePoolLookupByUUIDString: ['void *', 'void *', 'str'],
  virStoragePoolLookupByTargetPath: ['void *', 'void *', 'str'],
  virStoragePoolLookupByVolume: ['void *', 'void *'],
  virStoragePoolFree: ['int', 'void *'],
  virStoragePoolGetName: ['str', 'void *'],
  virStoragePoolGetUUIDString: ['int', 'void *', 'void *'],
  virStoragePoolBuild: ['int', 'void *', 'uint'],
  virStoragePoolCreate: ['int', 'void *', 'uint'],
  virStoragePoolDestroy: ['int', 'void *'],
  virStoragePoolUndefine: ['int', 'void *'],
  virStoragePoolDelete: ['int', 'void *', 'uint'],
  virStoragePoolRefresh: ['int', 'void *', 'uint'],
  virStoragePoolGetInfo: ['int', 'void *', 'void *'],
  virStoragePoolGetXMLDesc: ['str!', 'void *', 'uint'],
  virStoragePoolGetAutostart: ['int', 'void *', 'void *'],
  virStoragePoolSetAutostart: ['int', 'void *', 'int'],
  virStoragePoolIsActive: ['int', 'void *'],
  virStoragePoolIsPersistent: ['int', 'void *'],
  virStoragePoolListAllVolumes: ['int', 'void *', 'void *', 'uint'],
  virStorageVolCreateXML: ['void *', 'void *', 'str', 'uint'],
  virStorageVolCreateXMLFrom: ['void *', 'void *', 'str', 'void *', 'uint'],
  virStorageVolLookupByName: ['void *', 'void *', 'str'],
  virStorageVolLookupByKey: ['void *', 'void *', 'str'],
  virStorageVolLookupByPath: ['void *', 'void *', 'str'],
  virStorageVolFree: ['int', 'void *'],
  virStorageVolGetName: ['str', 'void *'],
  virStorageVolGetKey: ['str', 'void *'],
  virStorageVolGetPath: ['str!', 'void *'],
  virStorageVolGetInfo: ['int', 'void *', 'void *'],
  virStorageVolGetInfoFlags: ['int', 'void *', 'void *', 'uint'],
  virStorageVolGetXMLDesc: ['str!', 'void *', 'uint'],
  virStorageVolResize: ['int', 'void *', 'ulonglong', 'uint'],
  virStorageVolDelete: ['int', 'void *', 'uint'],
} as const satisfies Record<string, readonly [NativeType, ...NativeType[]]>

export type FunctionName = keyof typeof nativeFunctions

type Signature<N extends FunctionName> = (typeof nativeFunctions)[N]
type Values<T extends readonly unknown[]> = { [I in keyof T]: NativeTypes[T[I] & NativeType] }

export type ArgumentsOf<N extends FunctionName> =
  Signature<N> extends readonly [unknown, ...infer P extends readonly NativeType[]] ? Values<P> : never
export type ResultOf<N extends FunctionName> = NativeTypes[Signature<N>[0]]
/** The result of a call that did not fail: libvirt answers NULL only to say that it failed. */
export type SuccessOf<N extends FunctionName> = NonNullable<ResultOf<N>> | Extract<ResultOf<N>, undefined>
